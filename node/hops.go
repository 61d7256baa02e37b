package node

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"wanderfs/relay/wire"
)

const (
	entriesFile = "entries.json"
	pinned      = 2 // entries in use
	maxPinned   = 4 // entries kept, the oldest dead one goes first
)

// FewRelaysError says that a path cannot be chosen now: the node waits until
// it knows more relays, it never makes the path shorter.
type FewRelaysError struct {
	Need, Know int
	What       string // "relay" or "super node"
}

// Error says what is missing in words.
func (e *FewRelaysError) Error() string {
	plural := "s"
	if e.Need == 1 {
		plural = ""
	}
	return fmt.Sprintf("needs %d %s%s, knows %d", e.Need, e.What, plural, e.Know)
}

// chooser chooses the relays of paths from the node's own view. The first one
// of every path is a pinned entry, kept across restarts: whoever else runs a
// relay learns nothing by waiting to be chosen as the first. It is safe for
// concurrent use.
type chooser struct {
	view *view
	name string // entries file; "" keeps them in memory only

	mu      sync.Mutex
	entries []entry // guarded by mu
}

type entry struct {
	Node  wire.NodeID
	Since time.Time
}

type entryJSON struct {
	Node  string `json:"node"`
	Since int64  `json:"since"`
}

// newChooser reads the pinned entries kept in dir.
func newChooser(v *view, dir string) (*chooser, error) {
	c := &chooser{view: v}
	if dir == "" {
		return c, nil
	}
	c.name = filepath.Join(dir, entriesFile)
	b, err := os.ReadFile(c.name)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read entries: %w", err)
	}
	var kept []entryJSON
	if json.Unmarshal(b, &kept) != nil {
		return c, nil // damaged: new ones are pinned
	}
	for _, k := range kept[:min(len(kept), maxPinned)] {
		id, err := hex.DecodeString(k.Node)
		if err == nil && len(id) == len(wire.NodeID{}) {
			c.entries = append(c.entries, entry{wire.NodeID(id), time.Unix(k.Since, 0)})
		}
	}
	return c, nil
}

// hoodKey is what two relays of one half must not share.
type hoodKey struct {
	net  netip.Prefix
	node wire.NodeID // of a relay on loopback, where every node is its own
}

// hoodsOf returns the neighbourhoods that a relay lies in: one of IPv4, one of
// IPv6, or both; see oneHome.
func (v *view) hoodsOf(d wire.Descriptor) []hoodKey {
	var out []hoodKey
	for _, a := range v.policy.dialable(d) {
		k := hoodKey{net: neighbourhood(a)}
		if a.Addr().IsLoopback() {
			k = hoodKey{node: d.Node}
		}
		if !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

// path chooses n relays of different neighbourhoods for one half, the first a
// pinned entry. None is in avoid or shares its neighbourhood. With super the
// last one is a super node. The error is a *FewRelaysError.
//
// Relays that failed lately are used only where the others do not suffice.
func (c *chooser) path(n int, super bool, avoid ...wire.Descriptor) ([]wire.Descriptor, error) {
	hops, err := c.choose(newPicking(c.view, c.view.usable(), avoid), n, super)
	if err != nil {
		hops, err = c.choose(newPicking(c.view, c.view.all(), avoid), n, super)
	}
	return hops, err
}

func (c *chooser) choose(p *picking, n int, super bool) ([]wire.Descriptor, error) {
	hops := make([]wire.Descriptor, n)
	from := 1
	if super && n > 1 { // the scarce one first
		c.mu.Lock()
		hoods := c.hoodsLocked()
		c.mu.Unlock()
		d, ok := p.pick(wire.Descriptor.Super, func(d wire.Descriptor) bool { return c.view.inAny(d, hoods) })
		if !ok {
			d, ok = p.pick(wire.Descriptor.Super, nil)
		}
		if !ok {
			return nil, &FewRelaysError{Need: 1, Know: 0, What: "super node"}
		}
		hops[n-1] = d
		n--
	}
	d, ok := c.entry(p)
	if !ok {
		return nil, p.few(len(hops))
	}
	hops[0] = d
	for ; from < n; from++ {
		if hops[from], ok = p.pick(nil, nil); !ok {
			return nil, p.few(len(hops))
		}
	}
	return hops, nil
}

// entry takes a pinned entry out of p: one of the first two alive, else a
// later one. Another is pinned while fewer than two are alive, and where none
// fits and there is room; it lies in a neighbourhood of its own if possible.
func (c *chooser) entry(p *picking) (wire.Descriptor, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var alive, fit []wire.NodeID
	for _, e := range c.entries {
		if !c.view.dead(e.Node) {
			alive = append(alive, e.Node)
		}
	}
	for i, id := range alive {
		if p.has(id) && (i < pinned || len(fit) == 0) {
			fit = append(fit, id)
		}
	}
	if len(alive) < pinned || len(fit) == 0 && len(alive) < maxPinned {
		hoods := c.hoodsLocked()
		d, ok := p.peek(nil, func(d wire.Descriptor) bool { return c.view.inAny(d, hoods) })
		if !ok {
			d, ok = p.peek(nil, c.isEntryLocked)
		}
		if ok {
			c.pinLocked(d.Node)
			fit = append(fit, d.Node)
		}
	}
	if len(fit) == 0 {
		return wire.Descriptor{}, false
	}
	return p.take(fit[rand.IntN(len(fit))]), true
}

// hoodsLocked returns the neighbourhoods of the pinned entries.
func (c *chooser) hoodsLocked() map[hoodKey]bool {
	hoods := make(map[hoodKey]bool)
	for _, e := range c.entries {
		if d, ok := c.view.lookup(e.Node); ok {
			for _, h := range c.view.hoodsOf(d) {
				hoods[h] = true
			}
		}
	}
	return hoods
}

func (c *chooser) isEntryLocked(d wire.Descriptor) bool {
	return slices.ContainsFunc(c.entries, func(e entry) bool { return e.Node == d.Node })
}

func (c *chooser) pinLocked(id wire.NodeID) {
	if len(c.entries) >= maxPinned {
		i := slices.IndexFunc(c.entries, func(e entry) bool { return c.view.dead(e.Node) })
		if i < 0 {
			i = len(c.entries) - 1
		}
		c.entries = slices.Delete(c.entries, i, i+1)
	}
	c.entries = append(c.entries, entry{id, c.view.now()})
	if c.name == "" {
		return
	}
	var kept []entryJSON
	for _, e := range c.entries {
		kept = append(kept, entryJSON{hex.EncodeToString(e.Node[:]), e.Since.Unix()})
	}
	if b, err := json.Marshal(kept); err == nil {
		writeFile(c.name, b) // in memory it holds at any rate
	}
}

// inAny reports whether d lies in one of the neighbourhoods.
func (v *view) inAny(d wire.Descriptor, hoods map[hoodKey]bool) bool {
	return slices.ContainsFunc(v.hoodsOf(d), func(h hoodKey) bool { return hoods[h] })
}

// picking is the choice of one half: what is left to choose from, by the first
// neighbourhood of each.
type picking struct {
	view *view
	left map[hoodKey][]wire.Descriptor
	know int
}

func newPicking(v *view, from, avoid []wire.Descriptor) *picking {
	p := &picking{view: v, left: make(map[hoodKey][]wire.Descriptor)}
	for _, d := range from {
		if d.Node != v.self {
			h := v.hoodsOf(d)[0]
			p.left[h] = append(p.left[h], d)
		}
	}
	for _, d := range avoid {
		p.remove(d)
	}
	p.know = len(p.left)
	return p
}

func (p *picking) few(need int) error {
	return &FewRelaysError{Need: need, Know: p.know, What: "relay"}
}

// remove takes d out, and everybody who shares a neighbourhood with it.
func (p *picking) remove(d wire.Descriptor) {
	gone := map[hoodKey]bool{{node: d.Node}: true}
	for _, h := range p.view.hoodsOf(d) {
		gone[h] = true
	}
	for first, ds := range p.left {
		if gone[first] {
			delete(p.left, first)
			continue
		}
		kept := slices.DeleteFunc(ds, func(o wire.Descriptor) bool { return p.view.inAny(o, gone) })
		if p.left[first] = kept; len(kept) == 0 {
			delete(p.left, first)
		}
	}
}

// peek chooses a neighbourhood first and then a relay of it, so that many
// relays in one place weigh no more than one.
func (p *picking) peek(want, not func(wire.Descriptor) bool) (wire.Descriptor, bool) {
	var hoods [][]wire.Descriptor
	for _, ds := range p.left {
		var fit []wire.Descriptor
		for _, d := range ds {
			if (want == nil || want(d)) && (not == nil || !not(d)) {
				fit = append(fit, d)
			}
		}
		if len(fit) > 0 {
			hoods = append(hoods, fit)
		}
	}
	if len(hoods) == 0 {
		return wire.Descriptor{}, false
	}
	ds := hoods[rand.IntN(len(hoods))]
	return ds[rand.IntN(len(ds))], true
}

// pick is peek and takes the relay out with its neighbours.
func (p *picking) pick(want, not func(wire.Descriptor) bool) (wire.Descriptor, bool) {
	d, ok := p.peek(want, not)
	if ok {
		p.remove(d)
	}
	return d, ok
}

func (p *picking) has(id wire.NodeID) bool {
	_, ok := p.find(id)
	return ok
}

func (p *picking) find(id wire.NodeID) (wire.Descriptor, bool) {
	for _, ds := range p.left {
		for _, d := range ds {
			if d.Node == id {
				return d, true
			}
		}
	}
	return wire.Descriptor{}, false
}

func (p *picking) take(id wire.NodeID) wire.Descriptor {
	d, _ := p.find(id)
	p.remove(d)
	return d
}
