package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"wanderfs/node/view"
	"wanderfs/relay/wire"
)

// The index protocol: one request and one answer a stream,
//
//	length (4, big endian) | request        length (4) | answer
//
// A super node that cannot answer resets the stream.
const (
	maxIndexMessage = 1 << 20          // bytes; ours, above what node/index sends
	indexTimeout    = 10 * time.Second // for the whole exchange
	nearestTimeout  = 4 * time.Second  // for a lookup in the DHT
	wholeView       = 256              // super nodes up to which the view is taken for the whole network
)

var errIndexMessage = errors.New("bad index message")

// answerer answers index requests of a neighbour; satisfied by *index.Server.
type answerer interface {
	Answer(ctx context.Context, from wire.NodeID, req []byte) ([]byte, error)
}

// router finds super nodes and talks to them. It satisfies index.Router and is
// safe for concurrent use.
type router struct {
	t    *transport
	dht  *dht.IpfsDHT
	view *view.View
	self *ownDescriptor
	// store answers what others ask this node, and what it asks itself; nil on
	// a node that does not relay.
	store answerer
}

// place is where a node or a key lies on kad-dht's ring.
type place [sha256.Size]byte

func placeOf(p peer.ID) place     { return sha256.Sum256([]byte(p)) }
func placeKey(key [32]byte) place { return sha256.Sum256(key[:]) }
func (p place) distance(q place) (d place) {
	for i := range p {
		d[i] = p[i] ^ q[i]
	}
	return d
}

// nearby gathers super nodes and orders them by their distance to a key.
type nearby struct {
	target place
	seen   map[wire.NodeID]bool
	all    []candidate
}

type candidate struct {
	id wire.NodeID
	d  place
}

func (b *nearby) add(id wire.NodeID) {
	p, err := peerOf(id)
	if err != nil || b.seen[id] {
		return
	}
	b.seen[id] = true
	b.all = append(b.all, candidate{id, placeOf(p).distance(b.target)})
}

func (b *nearby) first(n int) []wire.NodeID {
	slices.SortFunc(b.all, func(a, b candidate) int { return bytes.Compare(a.d[:], b.d[:]) })
	out := make([]wire.NodeID, 0, n)
	for _, c := range b.all[:min(n, len(b.all))] {
		out = append(out, c.id)
	}
	return out
}

// viewed starts with what the view knows, and this node itself.
func (r *router) viewed(key [32]byte) *nearby {
	b := &nearby{target: placeKey(key), seen: make(map[wire.NodeID]bool)}
	for _, id := range r.view.Askable() {
		b.add(id)
	}
	if own, ok := r.self.get(); ok && own.Super() && r.store != nil {
		b.add(own.Node)
	}
	return b
}

// addPeers adds peers of the DHT, which are all super nodes.
func (r *router) addPeers(b *nearby, peers []peer.ID) {
	for _, p := range peers {
		if id, err := nodeOf(p); err == nil {
			if _, listed := r.view.Lookup(id); !listed || !r.view.Dead(id) {
				b.add(id)
			}
		}
	}
}

// Nearest returns up to n super nodes by their distance to key, nearest first.
// In a network larger than the view it asks the DHT.
func (r *router) Nearest(ctx context.Context, key [32]byte, n int) ([]wire.NodeID, error) {
	b := r.viewed(key)
	if len(b.all) > wholeView || len(b.all) < n && r.dht.RoutingTable().Size() > len(b.all) {
		ctx, cancel := context.WithTimeout(ctx, nearestTimeout)
		peers, _ := r.dht.GetClosestPeers(ctx, string(key[:])) // what the view knows still counts
		cancel()
		r.addPeers(b, peers)
	}
	out := b.first(n)
	if len(out) == 0 {
		return nil, errors.New("no super node known")
	}
	return out, nil
}

// Known returns what Nearest would without asking anybody: from the view and
// the DHT's routing table.
func (r *router) Known(key [32]byte, n int) []wire.NodeID {
	b := r.viewed(key)
	r.addPeers(b, r.dht.RoutingTable().NearestPeers(b.target[:], n))
	return b.first(n)
}

// Reach connects to a super node.
func (r *router) Reach(ctx context.Context, to wire.NodeID) error {
	if to == r.t.id {
		if r.store == nil {
			return errUnreachable
		}
		return nil
	}
	var err error
	if d, ok := r.view.Lookup(to); ok {
		err = r.t.connect(ctx, d)
	} else {
		var p peer.ID
		if p, err = peerOf(to); err != nil {
			return err
		}
		_, err = r.t.Network().DialPeer(ctx, p)
	}
	if err == nil {
		return nil
	}
	if ctx.Err() == nil {
		r.view.AskFailed(to)
	}
	return errUnreachable
}

// Ask sends req to a super node and returns its answer.
func (r *router) Ask(ctx context.Context, to wire.NodeID, req []byte) ([]byte, error) {
	if len(req) > maxIndexMessage {
		return nil, errIndexMessage
	}
	if to == r.t.id {
		if r.store == nil {
			return nil, errUnreachable
		}
		return r.store.Answer(ctx, to, req)
	}
	ctx, cancel := context.WithTimeout(ctx, indexTimeout)
	defer cancel()
	s, err := r.dial(ctx, to)
	if err != nil {
		if ctx.Err() == nil {
			r.view.AskFailed(to)
		}
		return nil, err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	ans, err := func() ([]byte, error) {
		if err := writeMessage(s, req); err != nil {
			return nil, err
		}
		s.CloseWrite()
		return readMessage(s)
	}()
	if err != nil {
		s.Reset()
		return nil, fmt.Errorf("ask super node: %w", err)
	}
	r.view.AskWorked(to)
	return ans, nil
}

func (r *router) dial(ctx context.Context, to wire.NodeID) (network.Stream, error) {
	if d, ok := r.view.Lookup(to); ok {
		return r.t.open(ctx, d, r.t.protocols.index)
	}
	p, err := peerOf(to) // only the DHT knows it; the gater checks its addresses
	if err != nil {
		return nil, err
	}
	if _, err := r.t.Network().DialPeer(ctx, p); err != nil {
		return nil, errUnreachable
	}
	s, err := r.t.eagerStream(ctx, p, r.t.protocols.index)
	if err != nil {
		return nil, errUnreachable
	}
	return s, nil
}

// serve answers one incoming stream of the index protocol.
func (r *router) serve(ctx context.Context, s network.Stream) {
	if r.store == nil {
		s.Reset()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, indexTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	req, err := readMessage(s)
	if err != nil {
		s.Reset()
		return
	}
	from, err := nodeOf(s.Conn().RemotePeer())
	if err != nil {
		s.Reset()
		return
	}
	ans, err := r.store.Answer(ctx, from, req)
	if err != nil || writeMessage(s, ans) != nil {
		s.Reset()
		return
	}
	s.Close()
}

func writeMessage(w io.Writer, b []byte) error {
	if len(b) > maxIndexMessage {
		return errIndexMessage
	}
	out := make([]byte, 0, 4+len(b))
	out = binary.BigEndian.AppendUint32(out, uint32(len(b)))
	if _, err := w.Write(append(out, b...)); err != nil {
		return errBroken
	}
	return nil
}

// readMessage reads one message. It allocates as bytes arrive, not as the
// sender announces.
func readMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, errBroken
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxIndexMessage {
		return nil, errIndexMessage
	}
	var b bytes.Buffer
	if m, err := io.CopyN(&b, r, int64(n)); err != nil || m != int64(n) {
		return nil, errBroken
	}
	return b.Bytes(), nil
}
