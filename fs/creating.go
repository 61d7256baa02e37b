package fs

import (
	"bytes"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// creating reports whether thread pid stands in a system call that makes
// name. In search/ every name is a folder, and the kernel refuses to make
// what is there already: a look-up on behalf of mkdir must find nothing. The
// request does not say on whose behalf it comes, /proc does. Where it does
// not (another PID namespace, a strict ptrace policy) the command line
// decides; setting user.wanderfs.pin works everywhere.
func creating(pid uint32, name string) bool {
	if pid == 0 {
		return false
	}
	proc := "/proc/" + strconv.FormatUint(uint64(pid), 10)
	b, err := os.ReadFile(proc + "/syscall")
	if err != nil || len(b) == 0 {
		return commandMakes(proc, name)
	}
	// nr, six arguments, stack and instruction pointers
	f := strings.Fields(string(b))
	nr, err := strconv.ParseUint(f[0], 10, 32)
	if err != nil || len(f) < 7 {
		return false // "running"
	}
	arg := func(i int) uint64 {
		v, _ := strconv.ParseUint(strings.TrimPrefix(f[1+i], "0x"), 16, 64)
		return v
	}
	for _, m := range makers {
		if nr == m.nr {
			if m.flags >= 0 && arg(m.flags)&unix.O_CREAT == 0 {
				return false
			}
			made, ok := readString(int(pid), arg(m.path))
			return ok && path.Base(made) == name
		}
	}
	return false
}

// maker is a system call that makes a name: which argument is the path, and
// which one holds flags with O_CREAT (-1: it always makes).
type maker struct {
	nr          uint64
	path, flags int
}

// readString reads a string from another thread's memory.
func readString(pid int, addr uint64) (string, bool) {
	var out []byte
	for len(out) < unix.PathMax {
		p := make([]byte, 256-addr%256) // never across the end of a page
		n, err := unix.ProcessVMReadv(pid,
			[]unix.Iovec{{Base: &p[0], Len: uint64(len(p))}},
			[]unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}, 0)
		if err != nil || n <= 0 {
			return "", false
		}
		if i := bytes.IndexByte(p[:n], 0); i >= 0 {
			return string(append(out, p[:i]...)), true
		}
		out = append(out, p[:n]...)
		addr += uint64(n)
	}
	return "", false
}

// commandMakes looks for `mkdir ... name`.
func commandMakes(proc, name string) bool {
	comm, _ := os.ReadFile(proc + "/comm")
	if string(comm) != "mkdir\n" {
		return false
	}
	line, _ := os.ReadFile(proc + "/cmdline")
	for arg := range bytes.SplitSeq(line, []byte{0}) {
		if path.Base(string(arg)) == name {
			return true
		}
	}
	return false
}
