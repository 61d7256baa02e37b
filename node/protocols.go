package node

import "github.com/libp2p/go-libp2p/core/protocol"

// What a node tells every neighbour in identify. It is the same for all nodes
// of all versions, and does not change while a node runs.
const (
	agentName       = "wanderfs"
	protocolVersion = "wanderfs/1"
)

const kadSuffix = "/kad/1.0.0" // kad-dht's

// LabSuffix is appended to the network name of a laboratory network, so that
// it can never meet a public one.
const LabSuffix = "-lab"

// protocols are the protocol IDs of one network. Every node handles all of
// them from start to end: what is switched off is answered with a reset.
type protocols struct {
	relay       protocol.ID // one circuit a stream
	descriptors protocol.ID // exchange.go
	index       protocol.ID // router.go
	dht         protocol.ID // prefix; kad-dht appends kadSuffix
	mdns        string
}

// networkName is the name that protocol IDs, labels and signatures carry.
func networkName(name string, lab bool) string {
	if name == "" {
		name = "main"
	}
	if lab {
		name += LabSuffix
	}
	return name
}

func protocolsFor(network string) protocols {
	p := "/wanderfs/" + network
	return protocols{
		relay:       protocol.ID(p + "/relay/1.0.0"),
		descriptors: protocol.ID(p + "/descriptors/1.0.0"),
		index:       protocol.ID(p + "/index/1.0.0"),
		dht:         protocol.ID(p),
		mdns:        "_wanderfs-" + network + "._udp",
	}
}

// all are the protocols that every node handles, besides libp2p's own.
func (p protocols) all() []protocol.ID {
	return []protocol.ID{p.relay, p.descriptors, p.index, p.dht + kadSuffix}
}
