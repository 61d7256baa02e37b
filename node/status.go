package node

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"wanderfs/node/control"
)

// nobodyAnswers says that this node seems to be cut off.
func nobodyAnswers(silent time.Duration) string {
	return fmt.Sprintf("an answer: no peer has given one for %v, is this machine on line?", silent.Round(time.Second))
}

// Status says what the node is doing, from memory.
func (n *Node) Status() control.Status {
	ready, missing := n.lookups.state()
	sessions, standing := n.publish.sessions()
	known, _ := n.mesh.view.Count()
	own, super := n.mesh.self.get()
	sh, ca := n.share.Stats(), n.cache.Stats()
	s := control.Status{
		Version:      n.cfg.Version,
		Node:         n.mesh.t.ID().String(),
		Ready:        ready,
		Network:      n.mesh.t.network,
		Reachability: n.mesh.t.reach.String(),
		SuperNode:    super && own.Super(),
		Peers:        len(n.mesh.t.Network().Peers()),
		RelaysKnown:  known,
		Addrs:        slices.Concat([]string{}, n.mesh.t.fullAddrs()),
		Sessions:     []control.Session{},
		Paths:        []control.Path{},
		Transfers:    []control.Transfer{},
		Shared: control.Shared{
			Dir: n.share.Dir(), Files: sh.Files, Bytes: sh.Bytes, Hashing: sh.Hashing,
			Published: sh.Published, Errors: slices.Concat([]string{}, sh.Errors),
		},
		Cache: control.Cache{Bytes: ca.Bytes, Limit: ca.Limit, Chunks: ca.Chunks},
	}
	silent, cutOff := n.mesh.view.Doubts.CutOff()
	switch {
	case cutOff && s.Peers > 0:
		s.WaitingFor = nobodyAnswers(silent)
	case !ready && s.Peers == 0 && n.mesh.book.empty():
		s.WaitingFor = "a first peer: give one with --bootstrap, or use --mdns"
	case !ready && s.Peers == 0:
		s.WaitingFor = "a peer that answers"
	case !ready && missing != nil:
		s.WaitingFor = "a lookup path: " + missing.Error()
	case !ready:
		s.WaitingFor = "a lookup path"
	case standing != nil && sh.Files > 0:
		s.WaitingFor = "a gateway for what is shared: " + standing.Error()
	}
	if n.reshare != nil {
		sessions = append(sessions, n.reshare.sessions()...)
		s.Shared.Reshared = n.reshare.offered()
	}
	now := time.Now()
	for _, i := range slices.Concat(n.reads.sessions(), sessions) {
		s.Sessions = append(s.Sessions, control.Session{
			Number: hex.EncodeToString(i.number[:]), Role: i.role,
			ExpiresIn: max(0, int64(i.expires.Sub(now)/time.Second)), Draining: i.draining,
		})
	}
	for _, p := range n.paths.list() {
		s.Paths = append(s.Paths, control.Path{
			Purpose: p.purpose, Relays: p.relays, State: p.state,
			Age: int64(p.age / time.Second), BytesIn: p.in, BytesOut: p.out,
		})
	}
	slices.SortFunc(s.Paths, func(a, b control.Path) int { return strings.Compare(a.Purpose, b.Purpose) })
	for _, t := range n.fetch.Transfers() {
		s.Transfers = append(s.Transfers, control.Transfer{
			CID: t.Ref.Name(), Done: t.Done, Size: t.Size, Rate: t.Rate, Sources: t.Sources,
			StalledFor: int64(t.StalledFor / time.Second), Why: t.Why,
		})
		if cutOff && t.Why != "" {
			s.Transfers[len(s.Transfers)-1].Why = nobodyAnswers(silent)
		}
	}
	if n.relay != nil {
		r := n.relay.Stats()
		s.Relayed = control.Relayed{Circuits: r.Circuits, Bytes: r.Bytes}
	}
	return s
}
