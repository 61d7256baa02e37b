package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"wanderfs/relay/wire"
)

// The descriptors protocol. A message is
//
//	version (1) | kind (1) | count (2, big endian) | count descriptors
//
// An ask holds the asker's own descriptor, if it has one; its answer the
// answerer's own and a random sample of relays which that one has met. A tell
// holds relays that the teller has just met and has no answer.
const (
	exchangeVersion = 1
	kindAsk         = 0
	kindAnswer      = 1
	kindTell        = 2

	maxExchange     = 48 // descriptors in a message
	exchangeTimeout = 10 * time.Second
)

var errExchange = errors.New("bad answer about relays")

func appendExchange(b []byte, kind byte, ds []wire.Descriptor) []byte {
	ds = ds[:min(len(ds), maxExchange)]
	b = append(b, exchangeVersion, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(ds)))
	for _, d := range ds {
		b, _ = d.AppendBinary(b) // fails only above MaxAddrs, which no parsed or signed one has
	}
	return b
}

// readExchange reads one message and nothing after it. Descriptors are parsed,
// not verified.
func readExchange(r io.Reader) (kind byte, ds []wire.Descriptor, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, errExchange
	}
	n := int(binary.BigEndian.Uint16(head[2:]))
	if head[0] != exchangeVersion || head[1] > kindTell || n > maxExchange {
		return 0, nil, errExchange
	}
	var buf [wire.DescriptorSize]byte
	for range n {
		if _, err := io.ReadFull(r, buf[:]); err != nil {
			return 0, nil, errExchange
		}
		d, err := wire.ParseDescriptor(buf[:])
		if err != nil {
			return 0, nil, errExchange
		}
		ds = append(ds, d)
	}
	return head[1], ds, nil
}

// answerExchange serves one incoming stream of the descriptors protocol.
func (d *discovery) answerExchange(s network.Stream) {
	from, err := nodeOf(s.Conn().RemotePeer())
	if err != nil || !d.allow(from) {
		s.Reset()
		return
	}
	s.SetDeadline(time.Now().Add(exchangeTimeout))
	kind, ds, err := readExchange(s)
	if err != nil || kind == kindAnswer || kind == kindAsk && len(ds) > 1 {
		s.Reset()
		return
	}
	d.learn(ds, sourceOf(from, s.Conn()))
	if kind == kindAsk {
		if _, err := s.Write(appendExchange(nil, kindAnswer, d.tellable())); err != nil {
			s.Reset()
			return
		}
	}
	s.Close()
}

// sourceOf gives the source at the other end of a connection.
func sourceOf(id wire.NodeID, c network.Conn) source {
	at, _ := addrPortOf(c.RemoteMultiaddr())
	return sourceAt(id, at)
}

// tellable returns the own descriptor, if there is one, and a sample.
func (d *discovery) tellable() []wire.Descriptor {
	var out []wire.Descriptor
	if own, ok := d.own(); ok {
		out = append(out, own)
	}
	return append(out, d.view.sample(maxExchange-1)...)
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
	s, err := d.send(ctx, p, kindAsk, own)
	if err != nil {
		return err
	}
	defer s.Close()
	kind, ds, err := readExchange(s)
	if err != nil || kind != kindAnswer {
		s.Reset()
		return errExchange
	}
	d.learn(ds, sourceOf(from, s.Conn()))
	return nil
}

// tell sends relays to a connected peer.
func (d *discovery) tell(ctx context.Context, p peer.ID, ds []wire.Descriptor) error {
	s, err := d.send(ctx, p, kindTell, ds)
	if err != nil {
		return err
	}
	return s.Close()
}

func (d *discovery) send(ctx context.Context, p peer.ID, kind byte, ds []wire.Descriptor) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	s, err := d.t.NewStream(network.WithNoDial(ctx, "exchange"), p, d.t.protocols.descriptors)
	if err != nil {
		return nil, fmt.Errorf("ask about relays: %w", errUnreachable)
	}
	s.SetDeadline(time.Now().Add(exchangeTimeout))
	if _, err := s.Write(appendExchange(nil, kind, ds)); err != nil {
		s.Reset()
		return nil, fmt.Errorf("ask about relays: %w", errUnreachable)
	}
	s.CloseWrite()
	return s, nil
}
