package relaytest

import (
	"sync"
	"time"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// line is one direction of a connection that several circuits share: what is
// written first is sent first, at the network's rate.
type line struct {
	turns *relay.Line

	mu   sync.Mutex
	free time.Time // when all that was written is sent; guarded by mu
}

func (n *Net) lineLocked(from, to wire.NodeID) *line {
	k := [2]wire.NodeID{from, to}
	if n.lines[k] == nil {
		n.lines[k] = &line{turns: relay.NewLine(0)}
	}
	return n.lines[k]
}

// send takes n bytes and gives the time when they arrive.
func (l *line) send(n int, cfg *Config) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	if cfg.Rate > 0 {
		l.free = l.free.Add(time.Duration(float64(n) / float64(cfg.Rate) * float64(time.Second)))
	}
	time.AfterFunc(l.free.Sub(now), func() { l.turns.Sent(n) })
	return l.free.Add(cfg.Latency)
}

// lineWriter writes to a link whose turn has come.
type lineWriter struct{ l *Link }

func (w lineWriter) Write(b []byte) (int, error) { return w.l.write(b) }
