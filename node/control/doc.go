// Package control is the local API of a running node: HTTP over a unix socket
// that only the node's user can open. The commands status, search, get and
// share speak it, and so may a dashboard.
//
// It promises that status answers at once whatever the node is doing: a node
// fills Status from memory. It carries names and CIDs in the clear, because it
// never leaves the machine; it logs none of them.
package control
