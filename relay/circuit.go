package relay

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"wanderfs/relay/wire"
)

var (
	errProtocol = errors.New("protocol violated")
	errStalled  = errors.New("circuit stalled for longest")
)

// circuit is one circuit at a relay. Its states:
//
//	admitted --SETUP--> taken --REPLY of the next--> middle   frames pass, opened or sealed once
//	   |                  |
//	   | does not         +--last, or no next--> far end   cells are handled here (farEnd)
//	   | verify, replay   |
//	   v                  v
//	 over  <----------- any state: a link ends, a frame does not verify, a limit
//
// run reads from prev. Going back, exactly one goroutine writes to prev: run
// itself while setting up, back once middle, farEnd.write at a far end.
type circuit struct {
	r              *Relay
	nb             *neighbour
	prev           stream
	next           stream // set once, before back starts
	fwd            *layer
	bwd            *layer
	hash           [32]byte    // of the handshake; names the circuit to both ends
	toPrev, toNext moving      // how prev and next take what is written
	fromPrev       moving      // how what prev sends comes in
	fromNext       moving      // the same of next
	far            *farEnd     // used by run; set once
	turn           atomic.Bool // fwd has turned, bwd is to follow
	sip            sip         // used by run
	spot           spot        // in r.waiting

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	over  bool
	links []Link  // to be ended; guarded by mu
	ends  *farEnd // far, to be ended; guarded by mu
}

// run is the circuit's life; its error says why it ended.
func (c *circuit) run() error {
	middle, err := c.setUp()
	if err != nil {
		return err
	}
	for {
		f, err := c.prev.readFrame(0)
		if err != nil {
			return err
		}
		if err := c.nb.bytes.WaitN(c.ctx, wire.FrameSize); err != nil {
			f.free()
			return err
		}
		turned, err := c.fwd.openOrTurn(f, c.r.limits.Turn)
		if err != nil {
			f.free()
			return err
		}
		if turned {
			c.turn.Store(true) // before the next relay can see the frame
			c.r.cfg.sees(c.nb.id, "forward keys", c.fwd.n-1)
		}
		if middle {
			c.fwd.filler(f.b[wire.FrameSize:wire.FrameSize+wire.TagSize], c.fwd.n-1)
			err = c.onward(f)
			f.free()
			c.r.bytes.Add(wire.RecordSize)
		} else {
			err = c.handle(f)
		}
		if err != nil {
			return err
		}
	}
}

// handle takes a cell that is meant for this relay, and the frame with it.
func (c *circuit) handle(f *frame) error {
	h, data, err := wire.ParseCell(f.cell(wire.TagSize))
	if err != nil {
		f.free()
		return err
	}
	if c.far == nil {
		c.far = newFarEnd(c)
		c.mu.Lock()
		c.ends = c.far
		over := c.over
		c.mu.Unlock()
		if over {
			c.far.close()
		}
		c.wg.Go(c.far.write)
	}
	f.h, f.data = h, data
	return c.far.handle(f)
}

// back carries frames from next to prev, one layer more on each.
func (c *circuit) back() {
	for {
		f, err := c.next.readFrame(wire.TagSize)
		if err != nil {
			c.end(err)
			return
		}
		if err = c.nb.bytes.WaitN(c.ctx, wire.FrameSize); err == nil {
			if err = c.sealBack(f); err == nil {
				err = c.prev.writeFrame(f, 0)
			}
		}
		f.free()
		if err != nil {
			c.end(err)
			return
		}
		c.r.bytes.Add(wire.RecordSize)
	}
}

// sendCell seals the cell at wire.TagSize and writes it to prev. Only for the
// one goroutine that writes there.
func (c *circuit) sendCell(f *frame) error {
	clear(f.b[wire.TagSize+wire.CellSize : wire.TagSize+wire.BodySize])
	if err := c.sealBack(f); err != nil {
		return err
	}
	return c.prev.writeFrame(f, 0)
}

// sealBack seals a backward frame, with new keys if it is time.
func (c *circuit) sealBack(f *frame) error {
	if err := c.bwd.step(); err != nil {
		return err
	}
	if c.turn.CompareAndSwap(true, false) {
		c.bwd.turn()
		c.r.cfg.sees(c.nb.id, "backward keys", c.bwd.n)
	}
	return c.bwd.seal(f.b[:], 0)
}

// end ends the circuit both ways and everything that hangs on it. However one
// side ended, the other is reset: if the way in which a link ends went on to the
// next, it would tell what happened elsewhere. SPEC.md §6.5
func (c *circuit) end(err error) {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return
	}
	c.over = true
	links, far := c.links, c.ends
	c.mu.Unlock()
	c.r.waiting.leave(c)
	c.cancel()
	for _, l := range links {
		if c.r.cfg.leaky.ends && err == io.EOF {
			l.Close()
			continue
		}
		l.Reset()
	}
	if far != nil {
		far.close()
	}
}

// attach adds a link that ends with the circuit; false if it is over.
func (c *circuit) attach(l Link) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false
	}
	c.links = append(c.links, l)
	return true
}

// erase drops the keys; nothing uses them any more.
func (c *circuit) erase() {
	for _, l := range []*layer{c.fwd, c.bwd} {
		if l != nil {
			l.erase()
		}
	}
	c.fwd, c.bwd, c.hash = nil, nil, [32]byte{}
}
