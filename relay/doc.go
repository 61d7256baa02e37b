// Package relay builds and carries circuits: layered paths through relays, the
// gateways where they meet, and the encrypted streams from end to end.
//
// A Relay serves circuits of others. A Builder makes paths of its own; both
// halves of a transfer are paths: a reader's ends at the gateway where a
// publisher's session listens at the end of another. What no relay learns: its
// place on a path, what a frame carries, and both ends. Timing is not hidden.
// wire/SPEC.md is the authority on bytes and on what is protected.
//
// The package knows neither sockets nor addresses: a Network makes Links, one
// reliable ordered byte stream for each circuit and hop.
//
// What strangers may make a relay do and hold is in Limits, never unbounded:
// buckets for each neighbour, a share of what is half open, turns at the
// handshakes, and one pool of frame buffers for all circuits together, 128 MiB
// unless said otherwise, in which what links hold unread counts, too. When that
// is full, who holds the oldest of it gives way. An idle circuit takes some
// 16 KiB. What a node sends for itself and for others can be kept apart with
// Shares.
package relay
