package node

import (
	"sync"
	"time"

	"wanderfs/relay/wire"
)

// ownSessions knows the numbers of this node's own publishing sessions for as
// long as a record may name them. The zero value knows none; it is safe for
// concurrent use.
type ownSessions struct {
	mu    sync.Mutex
	until map[wire.SessionNumber]time.Time // guarded by mu
}

func (o *ownSessions) note(n wire.SessionNumber, over time.Time) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.until == nil {
		o.until = make(map[wire.SessionNumber]time.Time)
	}
	for old, t := range o.until {
		if now.After(t) {
			delete(o.until, old)
		}
	}
	o.until[n] = over
}

func (o *ownSessions) has(n wire.SessionNumber) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.until[n]
	return ok
}
