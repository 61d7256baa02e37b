package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"wanderfs/cache/chunk"
)

// The kill test: a child process puts chunks for as long as it lives, its
// parent kills it and looks what is left. Where the child was when it died is
// read from a page that both have mapped: it survives the child and is written
// before and after every step.

const (
	killEnv   = "WANDERFS_TEST_CACHE_CHILD" // DIR,FIRST,STOP_AFTER,STOP_STEP
	killLimit = 256 << 10
)

// step is where in a put the child is.
type step uint64

const (
	outside step = iota
	entered
	creating
	created
	halfWritten
	written
	renaming
	renamed
	removing // evicting
	removed
	lastStep = removed
)

func (s step) String() string {
	return [...]string{"outside", "entered", "creating", "created", "half written", "written", "renaming", "renamed", "removing", "removed"}[s]
}

// trace is the shared page: one word, put number << 8 | step.
type trace struct{ page []byte }

func openTrace(path string) (trace, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return trace{}, err
	}
	defer f.Close()
	if err := f.Truncate(4096); err != nil {
		return trace{}, err
	}
	page, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return trace{page}, err
}

func (t trace) word() *uint64 { return (*uint64)(unsafe.Pointer(&t.page[0])) }

func (t trace) mark(put uint64, s step) { atomic.StoreUint64(t.word(), put<<8|uint64(s)) }

func (t trace) last() (put uint64, s step) {
	w := atomic.LoadUint64(t.word())
	return w >> 8, step(w & 0xff)
}

// killBlock is the chunk of a put: short, so that a put is mostly steps.
func killBlock(put uint64) (chunk.Ref, []byte) {
	var h [8]byte
	binary.BigEndian.PutUint64(h[:], put*0x9e3779b97f4a7c15)
	return block(put, 1+int(binary.BigEndian.Uint16(h[:]))%12_000)
}

// tracedDisk marks every step, and stops for good at one of them.
type tracedDisk struct {
	osDisk
	trace     trace
	put       atomic.Uint64
	stopAfter uint64
	stopStep  step
}

func (d *tracedDisk) at(s step) {
	put := d.put.Load()
	if put == 0 {
		return // opening
	}
	d.trace.mark(put, s)
	if s != outside && s == d.stopStep && put >= d.stopAfter {
		_, _ = os.Stdout.Write([]byte{'s'})
		_, _ = os.Stdin.Read(make([]byte, 1)) // returns only if the parent has gone
		os.Exit(4)
	}
}

func (d *tracedDisk) create(n string) (file, error) {
	d.at(creating)
	f, err := d.osDisk.create(n)
	d.at(created)
	return tracedFile{f, d}, err
}

func (d *tracedDisk) rename(from, to string) error {
	d.at(renaming)
	err := d.osDisk.rename(from, to)
	d.at(renamed)
	return err
}

func (d *tracedDisk) remove(n string) error {
	d.at(removing)
	err := d.osDisk.remove(n)
	d.at(removed)
	return err
}

type tracedFile struct {
	file
	d *tracedDisk
}

func (f tracedFile) Write(p []byte) (int, error) {
	n, err := f.file.Write(p[:len(p)/2])
	if err != nil {
		return n, err
	}
	f.d.at(halfWritten)
	m, err := f.file.Write(p[len(p)/2:])
	f.d.at(written)
	return n + m, err
}

// killChild is the whole life of the child. A wrong byte, or any error but
// those allowed, ends it with words on stdout.
func killChild(arg string) {
	fail := func(format string, args ...any) {
		fmt.Printf("\nchild: "+format+"\n", args...)
		os.Exit(3)
	}
	parts := strings.Split(arg, ",")
	var n [3]uint64
	for i := range n {
		n[i], _ = strconv.ParseUint(parts[1+i], 10, 64)
	}
	dir, first := parts[0], n[0]
	tr, err := openTrace(filepath.Join(dir, "trace"))
	if err != nil {
		fail("trace: %v", err)
	}
	d := &tracedDisk{trace: tr, stopAfter: n[1], stopStep: step(n[2])}
	c, err := open(Config{Dir: filepath.Join(dir, "cache"), Limit: killLimit, MinFree: -1}, d)
	if err != nil {
		fail("open: %v", err)
	}
	for put := first; ; put++ {
		r, data := killBlock(put)
		old, oldData := killBlock(1 + rand.Uint64N(put))
		d.put.Store(put)
		d.at(entered)
		err := c.Put(r, data)
		d.at(outside)
		if err != nil {
			fail("put: %v", err)
		}
		if put%4 == 0 {
			c.Pin(r)
			prev, _ := killBlock(put - 4)
			c.Unpin(prev)
		}
		got, err := c.Get(old)
		if err == nil && !bytes.Equal(got, oldData) {
			fail("wrong bytes")
		} else if err != nil && !errors.Is(err, ErrMiss) {
			fail("get: %v", err)
		}
		_, _ = os.Stdout.Write([]byte{'.'})
	}
}

// TestKill kills a writing process 208 times: half of the time anywhere, half
// of the time while it stands at one step of a put.
func TestKill(t *testing.T) {
	const lanes, rounds = 2, 104
	var kills, inside atomic.Int64
	var steps [lastStep + 1]atomic.Int64
	t.Run("lanes", func(t *testing.T) {
		for lane := range lanes {
			t.Run(strconv.Itoa(lane), func(t *testing.T) {
				t.Parallel()
				k := newKiller(t, uint64(lane))
				for round := range rounds {
					s := k.round(round)
					if t.Failed() {
						return
					}
					kills.Add(1)
					steps[s].Add(1)
					if s != outside {
						inside.Add(1)
					}
				}
			})
		}
	})
	for s := range steps {
		t.Logf("killed %3d times %v", steps[s].Load(), step(s))
	}
	if kills.Load() < 200 || inside.Load()*2 < kills.Load() {
		t.Errorf("got %d kills, %d inside a put; want at least 200 and half of them", kills.Load(), inside.Load())
	}
}

type killer struct {
	t     *testing.T
	dir   string
	trace trace
	rnd   *rand.Rand
	next  uint64 // put number
	keep  chunk.Ref
	bytes []byte
	puts  []killed // by put number
}

type killed struct {
	r    chunk.Ref
	data []byte
}

func newKiller(t *testing.T, seed uint64) *killer {
	k := &killer{t: t, dir: t.TempDir(), rnd: rand.New(rand.NewPCG(seed, 7)), next: 1}
	var err error
	if k.trace, err = openTrace(filepath.Join(k.dir, "trace")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(k.trace.page) })
	c := open1(t, k.config())
	k.keep, k.bytes = put(t, c, 1<<40, 9000)
	c.Pin(k.keep)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *killer) config() Config {
	return Config{Dir: filepath.Join(k.dir, "cache"), Limit: killLimit, MinFree: -1}
}

// round runs a child, kills it, checks, and returns where it died.
func (k *killer) round(round int) step {
	t := k.t
	var stopAfter uint64
	var stop step
	if round%2 == 0 {
		stop = entered + step(round/2)%lastStep
		stopAfter = k.next + k.rnd.Uint64N(8)
	}
	k.trace.mark(0, outside)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s,%d,%d,%d", killEnv, k.dir, k.next, stopAfter, stop))
	in, err := cmd.StdinPipe() // its end tells a child that outlives us
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dots := 3 + k.rnd.IntN(20)
	said := make([]byte, 1)
	for {
		if _, err := out.Read(said); err != nil {
			t.Errorf("child ended by itself: %v", err)
			break
		}
		if said[0] == 's' {
			break
		}
		if said[0] != '.' {
			rest, _ := io.ReadAll(out)
			t.Errorf("child said %s%s", said, rest)
			break
		}
		if dots--; stop == outside && dots <= 0 {
			time.Sleep(time.Duration(k.rnd.IntN(5000)) * time.Microsecond) // no event: any moment will do
			break
		}
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Errorf("kill: %v", err)
	}
	_ = cmd.Wait()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Errorf("child ended with %v, want SIGKILL", cmd.ProcessState)
	}
	put, s := k.trace.last()
	k.check(put, s)
	k.next = put + 1
	return s
}

// check reopens the cache after the child died in step s of that put.
func (k *killer) check(put uint64, s step) {
	t := k.t
	t.Helper()
	cfg := k.config()
	acked := put // the last put that had returned
	if s != outside {
		acked--
	}
	if acked >= k.next {
		master, err := loadKey(filepath.Join(cfg.Dir, "key"))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := newKeys(master)
		if err != nil {
			t.Fatal(err)
		}
		r, data := killBlock(acked)
		path := (&Cache{dir: cfg.Dir}).path(keys.slot(r).name)
		if info, err := os.Stat(path); err != nil || info.Size() != int64(len(data)) {
			t.Errorf("acknowledged chunk is not on disk: %v", err)
		}
	}
	c, err := Open(cfg)
	if err != nil {
		t.Errorf("reopen: %v", err)
		return
	}
	defer c.Close()
	if l, _ := os.ReadDir(filepath.Join(cfg.Dir, "tmp")); len(l) != 0 {
		t.Errorf("got %d temporary files after reopening, want 0", len(l))
	}
	st := c.Stats()
	if files := int64(len(chunkFiles(t, cfg.Dir))); files != st.Chunks || st.Bytes > killLimit {
		t.Errorf("after reopening: %d files, %+v", files, st)
	}
	p := make([]byte, 100)
	for i := uint64(len(k.puts)); i <= put; i++ {
		r, data := killBlock(i)
		k.puts = append(k.puts, killed{r, data})
	}
	for _, b := range k.puts {
		r, data := b.r, b.data
		if !c.Has(r) {
			continue
		}
		off := int64(len(data) / 2)
		n, err := c.ReadRange(r, p, off)
		if err == nil && !bytes.Equal(p[:n], data[off:off+int64(n)]) {
			t.Error("ReadRange after reopening: wrong bytes")
		} else if err != nil && !errors.Is(err, ErrMiss) {
			t.Errorf("ReadRange after reopening: %v", err)
		}
		got, err := c.Get(r)
		if err == nil && !bytes.Equal(got, data) {
			t.Error("Get after reopening: wrong bytes")
		} else if err != nil && !errors.Is(err, ErrMiss) {
			t.Errorf("Get after reopening: %v", err)
		}
	}
	if got := c.Stats().Damaged; got != 0 {
		t.Errorf("got %d damaged chunks, want 0: a kill leaves whole files or none", got)
	}
	if got, err := c.Get(k.keep); err != nil || !bytes.Equal(got, k.bytes) || !c.Pinned(k.keep) {
		t.Errorf("pinned chunk: %v", err)
	}
	for _, r := range c.Pins() { // those that a kill left behind
		if r != k.keep {
			c.Unpin(r)
		}
	}
}
