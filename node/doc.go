// Package node is one running peer: its identity, how it finds others, and the
// wiring of the parts below it. It is the only package that knows libp2p.
//
// A node has a transport identity, the NodeID, which carries only relaying.
// What the user reads and shares goes through sessions that no NodeID signs.
// From its own view of the network, learned from several peers, it chooses the
// relays of every path; nobody proposes one to it.
//
// Errors and logs of this package name no peer, address, session, CID or query.
//
// Where to look, from the wire up; each part knows those before it:
//
//	the host       libp2p, reduced: host (transport), protocols, identity, security,
//	               gater, limits, addrs, names, port, nat, reach, stranded, hidelog;
//	               the package portmap asks a router
//	links          one stream for each circuit and hop: link, eager (few round
//	               trips), gather and rawconn (few system calls), budget (own and
//	               others' rates); the package mux has the streams
//	the view       whom this node knows is in the package view; discovery, visit
//	               and exchange fill it, dht and dhthost walk, peerbook remembers;
//	               self and issued are what it tells of itself; held has relays
//	               that nobody can dial; mesh wires all of it
//	choice         which relays a path takes: hops, pinstore (who is pinned),
//	               neighbours (who is up), capacity (what they can do)
//	paths          paths, and pool for look-ups
//	the index      router (as a super node and as a far end), search, put
//	sharing        publisher, sharegroup, announcer, session, ownsessions, lifetime;
//	               reshare and resharegroup for what was read
//	reading        library, pinner (what is kept), reader, readsession, mime; legs, legpath and looks for
//	               what happens when a path fails
//	the node       node, config, status, errors
package node
