package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"wanderfs/node/view"
	"wanderfs/relay/wire"
)

// The descriptors protocol. A message is
//
//	version (1) | kind (1) | count (1) | held (1) | count descriptors | held records
//
// An ask holds the asker's own descriptor, if it has one; its answer the
// answerer's own and a random sample of relays which that one has met. A tell
// holds relays that the teller has just met and has no answer. The records at
// the end are of relays that nobody can dial; see heldRelays.
const (
	exchangeVersion = 1
	kindAsk         = 0
	kindAnswer      = 1
	kindTell        = 2

	maxExchange     = 48 // descriptors in a message
	maxHeldExchange = 8  // records of held relays in a message
	exchangeTimeout = 10 * time.Second
)

var errExchange = errors.New("bad answer about relays")

// exchange is one message.
type exchange struct {
	kind byte
	ds   []wire.Descriptor
	held []wire.Held
}

func appendExchange(b []byte, e exchange) []byte {
	ds, held := e.ds[:min(len(e.ds), maxExchange)], e.held[:min(len(e.held), maxHeldExchange)]
	b = append(b, exchangeVersion, e.kind, byte(len(ds)), byte(len(held)))
	for _, d := range ds {
		b, _ = d.AppendBinary(b) // fails for none that was parsed or signed
	}
	for _, h := range held {
		b, _ = h.AppendBinary(b) // the same
	}
	return b
}

// readExchange reads one message and nothing after it. What it holds is
// parsed, not verified.
func readExchange(r io.Reader) (e exchange, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return e, errExchange
	}
	n, held := int(head[2]), int(head[3])
	if head[0] != exchangeVersion || head[1] > kindTell || n > maxExchange || held > maxHeldExchange ||
		head[1] == kindAsk && (n > 1 || held > 1) {
		return e, errExchange
	}
	e.kind = head[1]
	var buf [wire.HeldSize]byte
	for i := range n + held {
		size := wire.DescriptorSize
		if i >= n {
			size = wire.HeldSize
		}
		if _, err := io.ReadFull(r, buf[:size]); err != nil {
			return exchange{}, errExchange
		}
		if i < n {
			d, err := wire.ParseDescriptor(buf[:size])
			if err != nil {
				return exchange{}, errExchange
			}
			e.ds = append(e.ds, d)
			continue
		}
		h, err := wire.ParseHeld(buf[:size])
		if err != nil {
			return exchange{}, errExchange
		}
		e.held = append(e.held, h)
	}
	return e, nil
}

// answerExchange serves one incoming stream of the descriptors protocol.
func (d *discovery) answerExchange(s network.Stream) {
	from, err := nodeOf(s.Conn().RemotePeer())
	if err != nil || !d.allow(from) {
		s.Reset()
		return
	}
	s.SetDeadline(time.Now().Add(exchangeTimeout))
	e, err := readExchange(s)
	if err != nil || e.kind == kindAnswer {
		s.Reset()
		return
	}
	d.learn(e, sourceOf(from, s.Conn()))
	if e.kind == kindAsk {
		d.noteOwn(e, from)
		answer := exchange{kind: kindAnswer, ds: d.tellable(), held: d.held.sample(maxHeldExchange)}
		if _, err := s.Write(appendExchange(nil, answer)); err != nil {
			s.Reset()
			return
		}
	}
	s.Close()
}

// sourceOf gives the source at the other end of a connection.
func sourceOf(id wire.NodeID, c network.Conn) view.Source {
	at, _ := addrPortOf(c.RemoteMultiaddr())
	return view.SourceAt(id, at)
}

// tellable returns the own descriptor, if there is one, and a sample.
func (d *discovery) tellable() []wire.Descriptor {
	var out []wire.Descriptor
	if own, ok := d.own(); ok {
		out = append(out, own)
	}
	return append(out, d.view.Sample(maxExchange-1)...)
}

// ask exchanges descriptors with a connected peer.
func (d *discovery) ask(ctx context.Context, p peer.ID) error {
	from, err := nodeOf(p)
	if err != nil {
		return err
	}
	var own []wire.Descriptor
	if o, ok := d.own(); ok {
		own = append(own, o)
	}
	s, err := d.send(ctx, p, exchange{kind: kindAsk, ds: own, held: d.held.ownRecord()})
	if err != nil {
		return err
	}
	defer s.Close()
	e, err := readExchange(s)
	if err != nil || e.kind != kindAnswer {
		s.Reset()
		return errExchange
	}
	d.learn(e, sourceOf(from, s.Conn()))
	d.noteOwn(e, from)
	return nil
}

// noteOwn looks whether from, who asks or answers, has a descriptor of its own
// still.
func (d *discovery) noteOwn(e exchange, from wire.NodeID) {
	if !slices.ContainsFunc(e.ds, func(desc wire.Descriptor) bool { return desc.Node == from }) {
		d.view.TakenBack(from)
	}
}

// tell sends relays to a connected peer.
func (d *discovery) tell(ctx context.Context, p peer.ID, ds []wire.Descriptor, held []wire.Held) error {
	s, err := d.send(ctx, p, exchange{kind: kindTell, ds: ds, held: held})
	if err != nil {
		return err
	}
	return s.Close()
}

// tellNeighbours sends this node's own record to those that it names.
func (d *discovery) tellNeighbours(rec wire.Held) {
	for _, id := range rec.Through {
		if p, err := peerOf(id); err == nil {
			d.tell(d.ctx, p, nil, []wire.Held{rec}) // who does not hear it now asks later
		}
	}
}

func (d *discovery) send(ctx context.Context, p peer.ID, e exchange) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	s, err := d.t.eagerStream(ctx, p, d.t.protocols.descriptors)
	if err != nil {
		return nil, fmt.Errorf("ask about relays: %w", errUnreachable)
	}
	s.SetDeadline(time.Now().Add(exchangeTimeout))
	if _, err := s.Write(appendExchange(nil, e)); err != nil {
		s.Reset()
		return nil, fmt.Errorf("ask about relays: %w", errUnreachable)
	}
	s.CloseWrite()
	return s, nil
}
