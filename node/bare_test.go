package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// bareEnv makes the test binary a node of the bare path: its value is the
// role, one of bareRelay, barePublisher and bareReader.
const bareEnv = "WANDERFS_BARE_NODE"

const (
	bareRelay     = "relay"
	barePublisher = "publisher"
	bareReader    = "reader"

	bareSize = 64 << 20 // bytes that both ends hold in memory, sent as often as asked for
)

var bareJoin = [32]byte{1, 2, 3}

// bareMessage is a line between the benchmark and one of its nodes.
type bareMessage struct {
	Relays  [][]byte          // the path: nearest relay first
	Session *wire.SessionKeys // the publisher's
	Times   int               // for the reader: read all bytes so often
	Took    time.Duration     // its answer
	Err     string

	CPU      time.Duration // used by the process so far
	Switches int64         // of its threads so far
}

// BenchmarkBarePath sends random bytes from memory to memory through six
// relays over real connections, every node its own process, and verifies them
// all. It reports MiB/s and, summed over all processes, the processor seconds
// and the thread switches that they cost. Run it with -benchtime 8x or more.
func BenchmarkBarePath(b *testing.B) {
	var nodes []*bareProcess
	start := func(role string) *bareProcess {
		p := startBare(b, role)
		nodes = append(nodes, p)
		return p
	}
	var ds [][]byte
	for range 6 {
		ds = append(ds, start(bareRelay).ask(b, bareMessage{}).Relays...)
	}
	publisher, reader := start(barePublisher), start(bareReader)
	listening := publisher.ask(b, bareMessage{Relays: [][]byte{ds[5], ds[4], ds[3]}})
	reader.ask(b, bareMessage{Relays: ds[:4], Session: listening.Session})
	reader.ask(b, bareMessage{Times: 2}) // windows have grown now
	sum := func() (cpu time.Duration, switches int64) {
		for _, p := range nodes {
			m := p.ask(b, bareMessage{})
			cpu += m.CPU
			switches += m.Switches
		}
		return cpu, switches
	}
	cpu, switches := sum()
	b.SetBytes(bareSize)
	b.ResetTimer()
	took := reader.ask(b, bareMessage{Times: b.N}).Took
	b.StopTimer()
	cpu2, switches2 := sum()
	mib := float64(b.N) * bareSize / (1 << 20)
	b.ReportMetric(mib/took.Seconds(), "MiB/s")
	b.ReportMetric((cpu2-cpu).Seconds()/(mib/1024), "cpu-s/GiB")
	b.ReportMetric(float64(switches2-switches)/mib, "switches/MiB")
}

// bareProcess is a node of the bare path as the benchmark sees it.
type bareProcess struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
}

func startBare(b *testing.B, role string) *bareProcess {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), bareEnv+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	runtime.LockOSThread()                                                       // whose timer slack the process inherits
	err = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(time.Millisecond), 0, 0, 0) // as the program does
	if err == nil {
		err = cmd.Start()
	}
	runtime.UnlockOSThread()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close() // it ends by this
		if err := cmd.Wait(); err != nil {
			b.Errorf("%s: %v", role, err)
		}
	})
	return &bareProcess{cmd: cmd, in: json.NewEncoder(in), out: json.NewDecoder(bufio.NewReader(out))}
}

func (p *bareProcess) ask(b *testing.B, m bareMessage) bareMessage {
	b.Helper()
	if err := p.in.Encode(m); err != nil {
		b.Fatal(err)
	}
	var got bareMessage
	if err := p.out.Decode(&got); err != nil {
		b.Fatal(err)
	}
	if got.Err != "" {
		b.Fatal(got.Err)
	}
	return got
}

// bareNode is one node of the bare path.
type bareNode struct {
	m      *mesh
	b      *relay.Builder
	data   []byte
	path   *relay.Path
	listen *relay.Listener
	conn   *relay.Conn
}

// runBare answers the benchmark until it closes our input. It gives the exit
// status.
func runBare(role string) int {
	debug.SetGCPercent(400) // as the program does
	n, err := newBareNode(role)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer n.m.Close()
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var q bareMessage
		if err := in.Decode(&q); err != nil {
			return 0
		}
		a, err := n.answer(role, q)
		if err != nil {
			a.Err = err.Error()
		}
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			return 1
		}
		a.CPU = time.Duration(u.Utime.Nano() + u.Stime.Nano())
		a.Switches = u.Nvcsw + u.Nivcsw
		if err := out.Encode(a); err != nil {
			return 1
		}
	}
}

func newBareNode(role string) (*bareNode, error) {
	key, err := loadIdentity("", true)
	if err != nil {
		return nil, err
	}
	network := networkName("bare", true)
	m, err := newMesh(meshConfig{hostConfig: hostConfig{
		Key: key, Network: network, Lab: true, Listen: []string{"/ip4/127.0.0.1/tcp/0"},
	}})
	if err != nil {
		return nil, err
	}
	n := &bareNode{m: m, b: &relay.Builder{Network: neighbours{t: m.t}, NetworkName: network}}
	if role == bareRelay {
		r, err := relay.New(relay.Config{Identity: key, NetworkName: network, Far: echoFar{}, Network: neighbours{t: m.t}})
		if err != nil {
			return nil, err
		}
		m.serve(r, echoStore{})
	} else {
		n.data = make([]byte, bareSize)
		rand.NewChaCha8([32]byte{7}).Read(n.data)
		m.serve(nil, nil)
	}
	return n, m.start()
}

func (n *bareNode) answer(role string, q bareMessage) (a bareMessage, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	switch {
	case q.Relays != nil:
		var hops []wire.Descriptor
		for _, b := range q.Relays {
			d, err := wire.ParseDescriptor(b)
			if err != nil {
				return a, err
			}
			hops = append(hops, d)
		}
		if n.path, err = n.b.Build(ctx, hops); err != nil {
			return a, err
		}
		if role == bareReader {
			n.conn, err = n.path.Join(ctx, *q.Session, bareJoin, nil)
			return a, err
		}
		s, err := relay.NewSession()
		if err != nil {
			return a, err
		}
		if n.listen, err = n.path.Listen(ctx, s, bareJoin); err != nil {
			return a, err
		}
		go n.send() // ends with the process
		keys := s.Keys()
		a.Session = &keys
	case q.Times > 0:
		start := time.Now()
		if err := n.receive(q.Times); err != nil {
			return a, err
		}
		a.Took = time.Since(start)
	case role == bareRelay:
		d, ok := n.m.self.get()
		if !ok {
			return a, errors.New("no descriptor")
		}
		b, err := d.AppendBinary(nil)
		a.Relays = [][]byte{b}
		return a, err
	}
	return a, nil
}

// send answers the reader: a number, and the bytes so often.
func (n *bareNode) send() {
	c, err := n.listen.Accept(context.Background())
	if err != nil {
		return
	}
	defer c.Close()
	for {
		var times [4]byte
		if _, err := io.ReadFull(c, times[:]); err != nil {
			return
		}
		for range binary.BigEndian.Uint32(times[:]) {
			if _, err := c.Write(n.data); err != nil {
				return
			}
		}
	}
}

func (n *bareNode) receive(times int) error {
	if _, err := n.conn.Write(binary.BigEndian.AppendUint32(nil, uint32(times))); err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	for range times {
		for want := n.data; len(want) > 0; {
			m, err := n.conn.Read(buf[:min(len(buf), len(want))])
			if err != nil {
				return err
			}
			if !bytes.Equal(buf[:m], want[:m]) {
				return errors.New("other bytes came")
			}
			want = want[m:]
		}
	}
	return nil
}
