package node

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/fetch"
	"wanderfs/relay/wire"
)

func testHop(n int) (d wire.Descriptor) {
	binary.BigEndian.PutUint32(d.Node[:], uint32(n))
	return d
}

// wood is a network of relays: two entries, four second ones, any number of
// third ones, each of which is drawn once.
type wood struct {
	mu    sync.Mutex
	n     int
	gone  map[wire.NodeID]bool
	hoods map[wire.NodeID]netip.Prefix
}

func newWood() *wood {
	return &wood{gone: map[wire.NodeID]bool{}, hoods: map[wire.NodeID]netip.Prefix{}}
}

func (w *wood) kill(id wire.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone[id] = true
}

func (w *wood) book() *legBook {
	return newLegBook(legSource{
		choose: func(wire.Descriptor) ([]wire.Descriptor, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.n++
			hops := []wire.Descriptor{testHop(1 + w.n%2), testHop(10 + w.n/2%4), testHop(1000 + w.n)}
			for i, h := range hops[:pinnedHops] {
				for w.gone[h.Node] {
					h = testHop(int(binary.BigEndian.Uint32(h.Node[:])) + 100)
				}
				hops[i] = h
			}
			return hops, nil
		},
		hoods: func(d wire.Descriptor) []netip.Prefix {
			w.mu.Lock()
			defer w.mu.Unlock()
			if p, ok := w.hoods[d.Node]; ok {
				return []netip.Prefix{p}
			}
			return nil
		},
		get: func(id wire.NodeID, _ bool) (d wire.Descriptor, ok bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			d.Node = id
			return d, !w.gone[id]
		},
		next:    func(_, _ wire.NodeID) bool { return true },
		suspect: func(wire.NodeID) int { return 0 },
		blame:   func(fn func()) { fn() },
		doubt:   func() bool { return false },
	})
}

var contentRoot = chunk.Raw([]byte("content"))

// taken takes a leg and gives it back with a fate.
func taken(t *testing.T, l *legs, gateway, how, at int) []wire.Descriptor {
	t.Helper()
	r, hops, err := l.take(t.Context(), testHop(gateway))
	if err != nil {
		t.Fatal(err)
	}
	l.done(r, fate(how), at)
	return hops
}

// replaced gives which relays of a row differ from another's.
func replaced(before, after []wire.Descriptor) (out []int) {
	for i := range before {
		if before[i].Node != after[i].Node {
			out = append(out, i)
		}
	}
	return out
}

// Two rows that are drawn at once do not share what need not be shared.
func TestRowsThatAreDrawnTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWood().book()
		n := 0
		b.choose = func(wire.Descriptor) ([]wire.Descriptor, error) {
			n++ // never two at a time, or the race detector says so
			entry, n := 1+n/3, n
			time.Sleep(time.Second)
			return []wire.Descriptor{testHop(entry), testHop(10 + n), testHop(1000 + n)}, nil
		}
		l := b.of(contentRoot)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				b.mu.Lock()
				defer b.mu.Unlock()
				if _, err := l.drawLocked(testHop(5000)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(l.rows) != 2 || l.rows[0].hops[0].Node == l.rows[1].hops[0].Node {
			t.Errorf("%d rows, want 2 with an entry each", len(l.rows))
		}
	})
}

// Where paths over two rows have fallen, the next one leads over a third row,
// in use or not, rather than over the entry that both have in common; who has
// no other goes over it all the same. No relay is drawn for that.
func TestSuspectRowsWait(t *testing.T) {
	b := newWood().book()
	fallen := make(map[wire.NodeID]int)
	b.suspect = func(id wire.NodeID) int { return fallen[id] }
	l := b.of(contentRoot)
	row := func(hops ...int) *leg {
		r := &leg{broken: -1}
		for _, h := range hops {
			r.hops = append(r.hops, testHop(h))
		}
		l.rows = append(l.rows, r)
		return r
	}
	one, two, third := row(1, 10, 1000), row(1, 11, 1001), row(2, 12, 1002)
	take := func() *leg {
		t.Helper()
		r, _, err := l.take(t.Context(), testHop(5000))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	third.users = 1
	for _, r := range []*leg{one, two} {
		for _, h := range r.hops {
			fallen[h.Node]++
		}
	}
	if take() != third {
		t.Error("the next path leads over what has just failed twice")
	}
	third.users = 3
	if r := take(); r != one && r != two {
		t.Error("all paths lead over one row")
	}
	clear(fallen)
	if r := take(); r == third {
		t.Error("a row that is idle and not suspect is not used")
	}
	if len(l.rows) != 3 {
		t.Errorf("%d rows, want 3", len(l.rows))
	}
}

// However often a gateway cannot be reached, the relays stay; one that lies
// near a row's last relay gets another last relay.
func TestGatewayIsBlamedFirst(t *testing.T) {
	w := newWood()
	l := w.book().of(contentRoot)
	first := taken(t, l, 5000, int(legClosed), 0)
	for i := range 100 {
		if hops := taken(t, l, 5000+i%3, int(legClosed), 0); len(replaced(first, hops)) > 0 {
			t.Fatal("another relay was drawn because a gateway refused")
		}
	}
	near := testHop(6000)
	w.hoods[near.Node] = netip.MustParsePrefix("10.1.0.0/16")
	w.hoods[first[2].Node] = w.hoods[near.Node]
	if got := replaced(first, taken(t, l, 6000, int(legClosed), 0)); !slices.Equal(got, []int{2}) {
		t.Errorf("for a gateway near the third relay: relays %v are replaced, want [2]", got)
	}
}

// Only the relay that failed is replaced. What a relay does to paths that were
// built is blamed on the last one, in the end.
func TestOnlyTheBrokenRelayIsReplaced(t *testing.T) {
	w := newWood()
	l := w.book().of(contentRoot)
	before := taken(t, l, 5000, int(legWorked), 0)
	for i := range 3 {
		w.kill(before[i].Node)
		after := taken(t, l, 5000, int(legWorked), 0)
		if got := replaced(before, after); !slices.Equal(got, []int{i}) {
			t.Errorf("relay %d has gone: relays %v are replaced", i, got)
		}
		before = after
	}
	for i := range 3 {
		taken(t, l, 5000, int(legRefused), i)
		after := taken(t, l, 5000, int(legWorked), 0)
		if got := replaced(before, after); !slices.Equal(got, []int{i}) {
			t.Errorf("relay %d refused: relays %v are replaced", i, got)
		}
		before = after
	}
	for range legStrikes {
		if got := replaced(before, taken(t, l, 5000, int(legFailed), 0)); len(got) > 0 {
			t.Errorf("relays %v are replaced before a row has failed often", got)
		}
	}
	if got := replaced(before, taken(t, l, 5000, int(legWorked), 0)); !slices.Equal(got, []int{2}) {
		t.Errorf("after paths that ended by themselves: relays %v are replaced, want [2]", got)
	}
}

// A task that wants one route more than it has rows draws a row, over the other
// entry; a path beside them shares one.
func TestRowsAreDrawnAsNeeded(t *testing.T) {
	w := newWood()
	synctest.Test(t, func(t *testing.T) {
		b := w.book()
		var width int
		var mu sync.Mutex
		rows := make(map[wire.NodeID]int)
		over := make(map[wire.NodeID]int)
		hold := make(chan struct{})
		f := fetch.New(fetch.Config{Finder: finderFunc(func(ctx context.Context, _ []byte) (io.ReadWriteCloser, error) {
			r, hops, err := b.of(contentRoot).take(ctx, testHop(5000))
			if err != nil {
				return nil, err
			}
			mu.Lock()
			width = max(width, fetch.Width(ctx))
			rows[hops[2].Node]++
			over[hops[0].Node]++
			mu.Unlock()
			select {
			case <-hold:
			case <-ctx.Done():
			}
			b.of(contentRoot).done(r, legClosed, 0)
			return nil, errors.New("never mind")
		})})
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		task := f.Task(contentRoot)
		if _, err := task.Get(ctx, contentRoot); err == nil {
			t.Error("got something")
		}
		cancel()
		task.Release()
		close(hold)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		paths := 0
		for _, n := range rows {
			paths += n
		}
		if width != 2 || len(rows) != 2 || len(over) != 2 || paths <= 2 {
			t.Errorf("for %d routes: %d rows, over %d entries, %d paths; want 2, 2, and more paths than rows", width, len(rows), len(over), paths)
		}
	})
}

// finderFunc finds routes to one session, which dial so.
type finderFunc func(ctx context.Context, first []byte) (io.ReadWriteCloser, error)

func (finderFunc) Session() (n wire.SessionNumber) { return n }
func (finderFunc) Gateway() (id wire.NodeID)       { return id }
func (d finderFunc) Dial(ctx context.Context, first []byte) (io.ReadWriteCloser, error) {
	return d(ctx, first)
}
func (d finderFunc) Find(context.Context, chunk.Ref) ([]fetch.Route, error) {
	return []fetch.Route{d, d, d}, nil // three gateways
}

// drawn is when a third relay was first seen by a publisher.
type drawn struct {
	at   time.Time
	root chunk.Ref
}

// failOnPurpose lets a reader read roots in turn for two hours from a publisher
// who ends every path as soon as it is there, and gives when each third relay
// was first met. A path takes a second to build.
func failOnPurpose(t *testing.T, cfg fetch.Config, roots []chunk.Ref) []drawn {
	b := newWood().book()
	var mu sync.Mutex
	met := make(map[wire.NodeID]bool)
	var out []drawn
	var now chunk.Ref
	cfg.Finder = finderFunc(func(ctx context.Context, _ []byte) (io.ReadWriteCloser, error) {
		mu.Lock()
		root := now
		mu.Unlock()
		l := b.of(root)
		r, hops, err := l.take(ctx, testHop(5000))
		if err != nil {
			return nil, err
		}
		mu.Lock()
		if id := hops[2].Node; !met[id] {
			met[id] = true
			out = append(out, drawn{time.Now(), root})
		}
		mu.Unlock()
		time.Sleep(time.Second)
		l.done(r, legFailed, 0)
		x, y := net.Pipe()
		y.Close()
		return x, nil
	})
	f := fetch.New(cfg)
	start := time.Now()
	for i := 0; time.Since(start) < 2*time.Hour; i++ {
		mu.Lock()
		now = roots[i%len(roots)]
		mu.Unlock()
		task := f.Task(roots[i%len(roots)])
		if _, err := task.Get(t.Context(), roots[i%len(roots)]); err == nil {
			t.Error("got something")
		}
		task.Release()
		if i%3 == 0 {
			time.Sleep(2 * time.Minute) // the task is over, and begins anew
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	return out
}

// mostWithin gives the largest number of draws in a span, leaving out the first
// two of each root: what a reading task begins with.
func mostWithin(ds []drawn, span time.Duration) (most int) {
	begun := make(map[chunk.Ref]int)
	var at []time.Time
	for _, d := range ds {
		if begun[d.root]++; begun[d.root] > 2 {
			at = append(at, d.at)
		}
	}
	for i := range at {
		n := 0
		for _, x := range at[i:] {
			if x.Sub(at[i]) < span {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// A publisher that ends every path, for hours and over many contents, does not
// make a reader draw more than four relays in ten minutes beyond the two that
// each task begins with. Without the limit he does.
func TestFailingPathsOnPurpose(t *testing.T) {
	roots := []chunk.Ref{contentRoot}
	for i := range 4 {
		roots = append(roots, chunk.Raw([]byte{byte(i)}))
	}
	for _, x := range []struct {
		name  string
		roots []chunk.Ref
		limit int
	}{{"one content", roots[:1], 0}, {"five contents", roots, 0}, {"no limit", roots[:1], 1 << 20}} {
		synctest.Test(t, func(t *testing.T) {
			ds := failOnPurpose(t, fetch.Config{Rebuilds: x.limit}, x.roots)
			got := mostWithin(ds, 10*time.Minute-time.Second) // met a moment after it was drawn
			t.Logf("%s: %d third relays in two hours, at most %d in ten minutes", x.name, len(ds), got)
			if x.limit == 0 && got > 4 {
				t.Errorf("%s: %d third relays were drawn in ten minutes, want at most 4", x.name, got)
			}
			if x.limit == 0 && got < 4 || x.limit > 0 && got <= 4 {
				t.Errorf("%s: only %d third relays were drawn in ten minutes: nothing was tested", x.name, got)
			}
		})
	}
}

// The end of a session in its own time draws new rows and costs nothing.
func TestRotationCostsNoDraw(t *testing.T) {
	w := newWood()
	b := w.book()
	f := fetch.New(fetch.Config{Finder: finderFunc(nil), Rebuilds: 1})
	defer f.Close()
	before := taken(t, b.of(contentRoot), 5000, int(legWorked), 0)
	for range 20 {
		b.renew(contentRoot)
		after := taken(t, b.of(contentRoot), 5000, int(legWorked), 0)
		if before[2].Node == after[2].Node {
			t.Error("a new session has a relay of the old one in the third place")
		}
		before = after
	}
}

// A task that may draw nothing goes on over relays that another one has shown
// itself to.
func TestRowsAreBorrowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWood()
		b := w.book()
		other := chunk.Raw([]byte("other"))
		lent := taken(t, b.of(other), 5000, int(legWorked), 0)
		var borrowed atomic.Bool
		f := fetch.New(fetch.Config{Rebuilds: 1, Finder: finderFunc(func(ctx context.Context, _ []byte) (io.ReadWriteCloser, error) {
			r, hops, err := b.of(contentRoot).take(ctx, testHop(5000))
			if err != nil {
				return nil, err
			}
			if len(replaced(lent, hops)) == 0 { // any of them: two paths are built at a time
				borrowed.Store(true)
			}
			w.kill(hops[2].Node)
			b.of(contentRoot).done(r, legRefused, 2)
			return nil, errors.New("refused")
		})})
		w.kill(testHop(999).Node)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		task := f.Task(contentRoot)
		if _, err := task.Get(ctx, contentRoot); err == nil {
			t.Error("got something")
		}
		task.Release()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if !borrowed.Load() {
			t.Error("where no draw was left, no relays of another task were used")
		}
	})
}

// What is told late of a relay that was replaced meanwhile does not count
// against the one in its place.
func TestLateBlameSparesTheReplacement(t *testing.T) {
	w := newWood()
	book := w.book()
	var late []func()
	book.blame = func(fn func()) { late = append(late, fn) }
	l := book.of(contentRoot)
	var first []wire.Descriptor
	for range legStrikes {
		first = taken(t, l, 5000, int(legFailed), 0)
	}
	w.kill(first[2].Node)
	second := taken(t, l, 5000, int(legClosed), 0)
	if got := replaced(first, second); !slices.Equal(got, []int{2}) {
		t.Fatalf("relays %v are replaced when the last one is gone, want [2]", got)
	}
	for _, fn := range late {
		fn()
	}
	if got := replaced(second, taken(t, l, 5000, int(legClosed), 0)); len(got) > 0 {
		t.Errorf("relays %v are replaced for failures of another, want none", got)
	}
}
