package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// crowdEnv makes the test binary a process of a crowd: its value is the role
// and its settings as a crowdSetup.
const crowdEnv = "WANDERFS_CROWD_PROCESS"

// Roles of a crowd's process.
const (
	crowdNode   = "node"   // one whole node, as the program runs it
	crowdRelays = "relays" // several relays of the lower half alone
	crowdUsers  = "users"  // many neighbours with paths of their own
)

// crowdSetup says what a process of a crowd is.
type crowdSetup struct {
	Role    string
	Hosts   int // relays, or users
	Limits  relay.Limits
	UpLimit int64
	Window  uint32 // bytes that users' links take ahead; 0: as the program's
}

// What the program asks of the runtime.
const (
	crowdGarbage = 400     // percent of what lives
	crowdMemory  = 1 << 30 // bytes, beyond which there is hardly garbage
)

const (
	crowdDead = 20 * time.Second // two cores do the work of all: nobody is dead
	crowdWait = 2 * time.Minute
)

// crowdAsk is what the test asks of a process.
type crowdAsk struct {
	Op       string
	Ways     [][][]byte // each of descriptors, nearest first
	N        int
	At       int     // at the same time
	Rate     float64 // a second
	For      time.Duration
	Dead     time.Duration // of those who join a session; 0: crowdDead
	Kind     string
	Sessions []*wire.SessionKeys
	Effort   int // bits of work that a session asks for
	Wave     int // 0: at once; else those who read get nothing before it is poured
}

// crowdTell is what a process answers.
type crowdTell struct {
	Err      string
	Relays   [][]byte // descriptors
	Use      crowdUse
	N        int
	Waves    [2]int // the same, by wave
	Failed   int
	Why      map[string]int  // of those that failed
	Took     []time.Duration // each
	Rates    []float64       // bytes a second, each
	Sessions []*wire.SessionKeys
}

// crowdProcess is a process of a crowd as the test sees it.
type crowdProcess struct {
	role string
	in   *json.Encoder
	out  *json.Decoder
}

// built holds the program of the crowds' processes where this one is too slow.
var built struct {
	sync.Mutex
	dir  string
	name string
}

// crowdProgram is this very program, or the same without the race detector:
// rates and memory are to be those of the real one.
func crowdProgram(t testing.TB) string {
	t.Helper()
	if !raceEnabled {
		return os.Args[0]
	}
	built.Lock()
	defer built.Unlock()
	if built.name != "" {
		return built.name
	}
	dir, err := os.MkdirTemp("", "wanderfs-crowd-bin-")
	if err != nil {
		t.Fatal(err)
	}
	built.dir = dir
	name := filepath.Join(dir, "node.test")
	if out, err := exec.Command("go", "test", "-c", "-o", name, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	built.name = name
	return name
}

// cleaning removes what was built after the tests.
type cleaning struct{ *testing.M }

func (c cleaning) Run() int {
	defer func() {
		if built.dir != "" {
			os.RemoveAll(built.dir)
		}
	}()
	return c.M.Run()
}

func startCrowd(t testing.TB, s crowdSetup) *crowdProcess {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(crowdProgram(t))
	cmd.Env = append(os.Environ(), crowdEnv+"="+string(b))
	cmd.Stderr = os.Stderr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // it ends by this
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", s.Role, err)
		}
	})
	return &crowdProcess{role: s.Role, in: json.NewEncoder(in), out: json.NewDecoder(bufio.NewReader(out))}
}

// ask asks and waits for the answer.
func (p *crowdProcess) ask(t testing.TB, q crowdAsk) crowdTell {
	t.Helper()
	p.begin(t, q)
	return p.wait(t)
}

// begin asks; wait takes the answer, later.
func (p *crowdProcess) begin(t testing.TB, q crowdAsk) {
	t.Helper()
	if err := p.in.Encode(q); err != nil {
		t.Fatalf("%s: %v", p.role, err)
	}
}

func (p *crowdProcess) wait(t testing.TB) crowdTell {
	t.Helper()
	var got crowdTell
	if err := p.out.Decode(&got); err != nil {
		t.Fatalf("%s: %v", p.role, err)
	}
	if got.Err != "" {
		t.Fatalf("%s: %s", p.role, got.Err)
	}
	return got
}

// crowdNetwork is the name of a crowd's network.
var crowdNetwork = networkName("crowd", true)

// crowdMember is what runs in a process of a crowd.
type crowdMember struct {
	setup crowdSetup
	dir   string
	node  *Node
	hosts []*crowdHost
	users users
}

// crowdHost is one relay of a process with several.
type crowdHost struct {
	m *mesh
	r *relay.Relay
}

// runCrowd answers the test until it closes our input. It gives the exit
// status.
func runCrowd(how string) int {
	var c crowdMember
	if err := json.Unmarshal([]byte(how), &c.setup); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	debug.SetGCPercent(crowdGarbage)
	if c.setup.Role == crowdNode {
		debug.SetMemoryLimit(crowdMemory) // others play more than one node
	}
	c.users.pouring.init()
	defer c.close()
	if err := c.start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var q crowdAsk
		if err := in.Decode(&q); err != nil {
			return 0
		}
		a, err := c.answer(q)
		if err != nil {
			a.Err = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return 1
		}
	}
}

func (c *crowdMember) start() (err error) {
	if c.dir, err = os.MkdirTemp("", "wanderfs-crowd-"); err != nil {
		return err
	}
	switch c.setup.Role {
	case crowdNode:
		c.node, err = New(context.Background(), Config{
			Data: c.dir, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Network: "crowd", Lab: true, CacheSize: 64 << 20,
			Limits: c.setup.Limits, UpLimit: c.setup.UpLimit, SessionLife: 12 * time.Hour,
			far: func(relay.Far) relay.Far { return echoFar{} },
		})
		return err
	case crowdRelays:
		for range c.setup.Hosts {
			h, err := newCrowdHost(c.setup.Limits)
			if err != nil {
				return err
			}
			c.hosts = append(c.hosts, h)
		}
	case crowdUsers:
		return c.users.add(c.setup.Hosts, c.setup.Window)
	default:
		return errors.New("no such role")
	}
	return nil
}

func newCrowdHost(l relay.Limits) (*crowdHost, error) {
	key, err := loadIdentity("", true)
	if err != nil {
		return nil, err
	}
	m, err := newMesh(meshConfig{hostConfig: hostConfig{
		Key: key, Network: crowdNetwork, Lab: true, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Limits: l,
	}})
	if err != nil {
		return nil, err
	}
	r, err := relay.New(relay.Config{Identity: key, NetworkName: crowdNetwork, Far: echoFar{}, Network: neighbours{t: m.t}, Limits: l})
	if err != nil {
		return nil, err
	}
	m.serve(r, echoStore{})
	return &crowdHost{m, r}, m.start()
}

func (c *crowdMember) close() {
	c.users.close()
	for _, h := range c.hosts {
		h.m.t.intake.close()
		h.r.Close()
		h.m.Close()
	}
	if c.node != nil {
		c.node.Close()
	}
	os.RemoveAll(c.dir)
}

// relays gives the relays of the process.
func (c *crowdMember) relays() (ms []*mesh, rs []*relay.Relay) {
	if c.node != nil {
		return []*mesh{c.node.mesh}, []*relay.Relay{c.node.relay}
	}
	for _, h := range c.hosts {
		ms, rs = append(ms, h.m), append(rs, h.r)
	}
	return ms, rs
}

func (c *crowdMember) answer(q crowdAsk) (a crowdTell, err error) {
	switch q.Op {
	case "descriptors":
		ms, _ := c.relays()
		for _, m := range ms {
			d, ok := m.self.get()
			if !ok {
				return a, errors.New("no descriptor")
			}
			b, err := d.AppendBinary(nil)
			if err != nil {
				return a, err
			}
			a.Relays = append(a.Relays, b)
		}
		return a, nil
	case "look":
		a.Use, err = c.look()
		return a, err
	case "use":
		return a, c.use(&a.Use)
	}
	if q.Op == "publish" && c.node != nil { // a session of the node's own, from its own share
		t := c.node.mesh.t
		b := &relay.Builder{Network: ownNetwork{neighbours{t: t}}, NetworkName: crowdNetwork, Dead: crowdDead}
		return c.users.publish(withBudget(context.Background(), t.shares.Session()), b, q)
	}
	return c.users.answer(q)
}

// parseHops reads descriptors.
func parseHops(bs [][]byte) (hops []wire.Descriptor, err error) {
	for _, b := range bs {
		d, err := wire.ParseDescriptor(b)
		if err != nil {
			return nil, err
		}
		hops = append(hops, d)
	}
	return hops, nil
}

// roomyLimits are for relays that are not what a test is about.
func roomyLimits() relay.Limits {
	return relay.Limits{Creates: 1e6, PerTarget: 1e6, Queries: 1e6, Opens: 1e6, Joins: 1e6, PerNeighbour: 10240, HalfOpenPer: 1024, DialsPer: 512}
}
