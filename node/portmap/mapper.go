package portmap

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// All are ours; any value works.
const (
	leaseTime  = 30 * time.Minute // what is asked for
	renewEvery = 2 * time.Minute  // a router that began anew has forgotten
	askAgain   = 5 * time.Minute  // after nobody answered
	lookEvery  = 5 * time.Second  // between two looks whether this is the same router still
	answerMost = time.Second      // for one answer by NAT-PMP
	findMost   = 15 * time.Second // for a router to be found and asked
	giveMost   = 2 * time.Second  // for a router to take its ports back
	lostMost   = 3                // renewals that fail in a row, and what was forwarded is forgotten
)

// Mapper asks the router for ports, until it is closed. It does so anew where
// the machine comes behind another router, where the router forgot, and now and
// then where none answered. All methods are safe for concurrent use.
type Mapper struct {
	ports  func() []uint16
	home   func() (lan, bool)
	find   func(context.Context, lan) (forwarder, error)
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	mapped map[uint16]netip.AddrPort // own port -> the router's; guarded by mu
}

// forwarder is a router that forwards ports. Every call ends with its context
// or soon, and errors name no address.
type forwarder interface {
	external(ctx context.Context) (netip.Addr, error)
	open(ctx context.Context, port uint16, lease time.Duration) (outside uint16, err error)
	close(ctx context.Context, port uint16)
}

// New starts a Mapper. It asks for the TCP ports that ports tells each time, and
// for none where public says of this machine's own address that others reach it
// as it is. Both are called by one goroutine.
func New(ports func() []uint16, public func(netip.Addr) bool) *Mapper {
	m := &Mapper{ports: ports, find: findRouter, home: func() (lan, bool) {
		at, ok := whereabouts()
		return at, ok && !public(at.own.Addr())
	}}
	m.start()
	return m
}

func (m *Mapper) start() {
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel, m.mapped = cancel, make(map[uint16]netip.AddrPort)
	m.wg.Go(func() { m.run(ctx) })
}

// Close gives the ports back and waits for that, giveMost and answerMost at most.
// It may be called twice.
func (m *Mapper) Close() error {
	m.cancel()
	m.wg.Wait()
	return nil
}

// Found reports whether a router forwards a port.
func (m *Mapper) Found() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.mapped) > 0
}

// Outside returns the router's address and port for one of the node's ports.
func (m *Mapper) Outside(port uint16) (at netip.AddrPort, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok = m.mapped[port]
	return at, ok
}

func (m *Mapper) run(ctx context.Context) {
	var at lan
	var router forwarder
	var due time.Time
	failed := 0
	tick := time.NewTicker(time.Second) // the node listens by then
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			m.giveBack(router)
			return
		case <-tick.C:
			tick.Reset(lookEvery)
		}
		now := time.Now()
		here, ok := m.home()
		if here != at { // the router left behind cannot be reached any more, and forgets
			at, router, due = here, nil, now
			m.forget()
		}
		if !ok || now.Before(due) {
			continue
		}
		asking, done := context.WithTimeout(ctx, findMost)
		err := error(nil)
		if router == nil {
			router, err = m.find(asking, at)
		}
		if err == nil {
			err = m.ask(asking, router)
		}
		done()
		due = time.Now().Add(renewEvery)
		switch {
		case err == nil:
			failed = 0
		case ctx.Err() != nil:
		case !m.Found():
			router, due = nil, time.Now().Add(askAgain)
		default: // a lost answer is no lost port
			if failed++; failed < lostMost {
				due = time.Now().Add(lookEvery)
				break
			}
			m.forget()
			router, failed = nil, 0 // it may speak from another place now
			due = time.Now()
		}
	}
}

// ask asks for all the ports at which the node listens.
func (m *Mapper) ask(ctx context.Context, router forwarder) error {
	ext, err := router.external(ctx)
	if err != nil {
		return err
	}
	for _, port := range m.ports() {
		outside, err := router.open(ctx, port, leaseTime)
		if err != nil {
			return err
		}
		m.mu.Lock()
		m.mapped[port] = netip.AddrPortFrom(ext, outside)
		m.mu.Unlock()
	}
	return nil
}

func (m *Mapper) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.mapped)
}

func (m *Mapper) giveBack(router forwarder) {
	if router == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), giveMost)
	defer cancel()
	for port := range m.mapped { // nobody else writes
		if ctx.Err() != nil {
			return
		}
		router.close(ctx, port)
	}
}
