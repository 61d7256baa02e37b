package fs

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// creating reports whether thread pid stands in a system call that makes a
// name. In search/ every name is a folder, and the kernel refuses to make
// what is there already: a look-up on behalf of mkdir must find nothing. The
// request does not say on whose behalf it comes, /proc does. Where it does
// not (another PID namespace, a strict ptrace policy) the name of the program
// decides; setting user.wanderfs.pin works everywhere.
func creating(pid uint32) bool {
	if pid == 0 {
		return false
	}
	dir := "/proc/" + strconv.FormatUint(uint64(pid), 10)
	b, err := os.ReadFile(dir + "/syscall")
	if err != nil || len(b) == 0 || strings.HasPrefix(string(b), "running") {
		comm, _ := os.ReadFile(dir + "/comm")
		return string(comm) == "mkdir\n"
	}
	f := strings.Fields(string(b))
	nr, err := strconv.ParseUint(f[0], 10, 32)
	if err != nil {
		return false
	}
	if slices.Contains(makers, nr) {
		return true
	}
	for _, o := range openers {
		if nr == o.nr && len(f) > 1+o.flags {
			flags, err := strconv.ParseUint(strings.TrimPrefix(f[1+o.flags], "0x"), 16, 64)
			return err == nil && flags&unix.O_CREAT != 0
		}
	}
	return false
}

// opener is a system call that opens, and which argument holds its flags.
type opener struct {
	nr    uint64
	flags int
}
