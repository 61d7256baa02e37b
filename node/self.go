package node

import (
	"slices"
	"sync"
	"time"

	"wanderfs/relay/wire"
)

const (
	descriptorLife  = 3 * time.Hour
	descriptorRenew = time.Hour // signed anew after this long
)

// ownDescriptor is the descriptor that this node gives others, signed anew
// long before it expires and when anything in it changes. It is safe for
// concurrent use.
type ownDescriptor struct {
	t     *transport
	onion func() [32]byte // nil: this node does not relay and has none
	now   func() time.Time

	mu   sync.Mutex
	desc wire.Descriptor // guarded by mu
	ok   bool            // guarded by mu
}

// refresh signs a new descriptor where one is due.
func (o *ownDescriptor) refresh() {
	if o.onion == nil {
		return
	}
	addrs, onion := o.t.addrs(), o.onion()
	var flags byte
	if len(addrs) > 0 {
		flags = wire.FlagSuper
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(addrs) == 0 {
		o.ok = false
		return
	}
	now := o.now()
	if o.ok && o.desc.Onion == onion && slices.Equal(o.desc.Addrs, addrs) && now.Sub(o.desc.Issued) < descriptorRenew {
		return
	}
	issued := now.Truncate(time.Second)
	if last := o.desc.Issued; !issued.After(last) { // the newer one wins by its second
		issued = last.Add(time.Second)
	}
	d := wire.Descriptor{Onion: onion, Flags: flags, Issued: issued, Expires: issued.Add(descriptorLife), Addrs: addrs}
	if d.Sign(o.t.key, o.t.network) == nil {
		o.desc, o.ok = d, true
	}
}

// get returns the descriptor; false while this node cannot be dialled or does
// not relay.
func (o *ownDescriptor) get() (wire.Descriptor, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.desc, o.ok
}
