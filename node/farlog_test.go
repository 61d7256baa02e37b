package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"wanderfs/cache/chunk"
	"wanderfs/node/index"
	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// farLog is what all far ends of a network saw together, with the circuit on
// which each request came.
type farLog struct {
	mu   sync.Mutex
	seen []farRequest
}

type farRequest struct {
	circuit <-chan struct{} // of the circuit's context: closed when it is over
	req     []byte
}

// watch is for Config.far.
func (l *farLog) watch(f relay.Far) relay.Far { return farWatcher{l, f} }

type farWatcher struct {
	log *farLog
	relay.Far
}

func (w farWatcher) Answer(ctx context.Context, req []byte) ([]byte, error) {
	w.log.mu.Lock()
	w.log.seen = append(w.log.seen, farRequest{ctx.Done(), slices.Clone(req)})
	w.log.mu.Unlock()
	return w.Far.Answer(ctx, req)
}

// forget begins a new log.
func (l *farLog) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = nil
}

// byCircuit gives what was asked on each circuit, in order.
func (l *farLog) byCircuit() map[<-chan struct{}][][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[<-chan struct{}][][]byte)
	for _, r := range l.seen {
		out[r.circuit] = append(out[r.circuit], r.req)
	}
	return out
}

// recordSizes are the lengths of the records of each kind, found by making
// some.
var recordSizes = sync.OnceValue(func() map[index.RecordKind][]int {
	sizes := make(map[index.RecordKind][]int)
	add := func(r index.Record) { sizes[r.Kind()] = append(sizes[r.Kind()], len(r.Bytes())) }
	ref := chunk.Raw([]byte("x"))
	for _, name := range []string{"short", string(slices.Repeat([]byte("long "), 50))} {
		b, _ := index.NewBatch("")
		recs, err := b.Postings(index.Item{Name: name, Ref: ref}, time.Now())
		if err != nil {
			panic(err)
		}
		add(recs[0])
	}
	g, _ := index.NewGroup("")
	p, err := g.Pointer(ref, time.Now())
	if err != nil {
		panic(err)
	}
	add(p)
	s, err := g.Seal(make([]byte, wire.SourceSize), 1, time.Now())
	if err != nil {
		panic(err)
	}
	add(s)
	return sizes
})

// putRecords takes a put apart; nil if req is none.
func putRecords(req []byte) (recs []index.Record) {
	if req[1] != 1 {
		return nil
	}
	n := int(binary.BigEndian.Uint16(req[2:]))
	req = req[4:]
	for range n {
		for _, size := range recordSizes()[index.RecordKind(req[1])] {
			if len(req) < size {
				continue
			}
			if r, err := index.ParseRecord(req[:size]); err == nil {
				recs, req = append(recs, r), req[size:]
				break
			}
		}
	}
	if len(recs) != n || len(req) > 0 {
		panic("the test cannot read what was put")
	}
	return recs
}

func signerOf(r index.Record) [32]byte { b := r.Bytes(); return [32]byte(b[len(b)-96:]) }

// matter is what a circuit was used for.
type matter struct {
	what  string
	about [32]byte // the address asked for, the batch key, or the group
}

// matters lists what req is about. groupOf tells to which group of shares the
// address of a pointer belongs.
func matters(req []byte, groupOf func(addr [32]byte) int) map[matter]bool {
	out := make(map[matter]bool)
	if recs := putRecords(req); recs != nil {
		for _, r := range recs {
			switch r.Kind() {
			case index.Posting:
				out[matter{"batch", signerOf(r)}] = true
			case index.Pointer:
				out[matter{"pointers", [32]byte{byte(groupOf(r.Address()) + 1)}}] = true
			case index.GroupInfo:
				out[matter{"group record", r.Address()}] = true
			}
		}
		return out
	}
	switch index.RecordKind(req[2]) {
	case index.Posting: // the tags are the query's other words
		about := [32]byte(req[3:])
		for i, b := range req[76:] {
			about[i%32] ^= b
		}
		out[matter{"query", about}] = true
	case index.Pointer:
		out[matter{"look-up", [32]byte(req[3:])}] = true
	}
	return out // group records are asked for in a look-up
}

// violations lists in words how the far ends' log breaks the rules of
// isolation, nothing if it does not.
func violations(l *farLog, groupOf func(addr [32]byte) int) (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	circuits := make(map[matter]int)
	signed := make(map[[32]byte]int)
	for _, reqs := range l.byCircuit() {
		all := make(map[matter]bool)
		kinds := make(map[string]int)
		for _, req := range reqs {
			for m := range matters(req, groupOf) {
				all[m] = true
			}
			for _, r := range putRecords(req) {
				if r.Kind() == index.Posting {
					signed[signerOf(r)]++
				}
			}
		}
		asks, puts := 0, 0
		for m := range all {
			kinds[m.what]++
			circuits[m]++
			if m.what == "query" || m.what == "look-up" {
				asks++
			} else {
				puts++
			}
		}
		for what, n := range kinds {
			if n > 1 {
				say("%d of %s share a path", n, what)
			}
		}
		if asks > 0 && puts > 0 {
			say("a query and a publication share a path")
		}
		if len(kinds) > 1 {
			say("a path is used for %d purposes", len(kinds))
		}
	}
	for m, n := range circuits {
		if m.what == "batch" && n > 1 {
			say("a batch goes over %d paths", n)
		}
	}
	for _, n := range signed {
		if n > index.BatchSize {
			say("a batch key signs %d postings", n)
		}
	}
	return out
}

// overWithin reports whether all circuits that were asked anything end by
// themselves: such a path serves for nothing more.
func (l *farLog) overWithin(d time.Duration) bool {
	timeout := time.After(d)
	for c := range l.byCircuit() {
		select {
		case <-c:
		case <-timeout:
			return false
		}
	}
	return true
}

func has(list []string, want string) bool { return slices.Contains(list, want) }

func noGroup([32]byte) int { return 0 }

// The checks above see what they are for.
func TestFarLogReads(t *testing.T) {
	l := &farLog{}
	c := make(chan struct{})
	b, _ := index.NewBatch("test-lab")
	recs, err := b.Postings(index.Item{Name: "one two three", Ref: chunk.Raw([]byte("y"))}, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	a := askerFunc(func(_ context.Context, req []byte) ([]byte, error) {
		l.seen = append(l.seen, farRequest{c, slices.Clone(req)})
		return nil, errClosed
	})
	index.Put(t.Context(), a, recs)
	if got := putRecords(l.seen[0].req); len(got) != 3 || signerOf(got[0]) != signerOf(got[2]) {
		t.Errorf("read %d records", len(got))
	}
	if got := violations(l, noGroup); len(got) > 0 {
		t.Errorf("one put is said to break rules: %q", got)
	}
	if l.overWithin(time.Millisecond) {
		t.Error("an open circuit is said to be over")
	}
}

type askerFunc func(context.Context, []byte) ([]byte, error)

func (f askerFunc) Ask(ctx context.Context, req []byte) ([]byte, error) { return f(ctx, req) }
