// Package node is one running peer: its identity, how it finds others, and the
// wiring of the parts below it. It is the only package that knows libp2p.
//
// A node has a transport identity, the NodeID, which carries only relaying.
// What the user reads and shares goes through sessions that no NodeID signs.
// From its own view of the network, learned from several peers, it chooses the
// relays of every path; nobody proposes one to it.
//
// Errors and logs of this package name no peer, address, session, CID or query.
package node
