// Package fetch reads content from the sessions that share it and serves it to
// those who read.
//
// The reader's half is a Fetcher: one Task for each root CID, with up to four
// routes at once, to several sessions where there are several. A Task is a
// chunk.RangeGetter: it answers from the Store where it can, and else asks the
// network, once for each chunk however many readers wait. The publisher's half
// is a Server. What they say to each other is in PROTOCOL.md.
//
// It promises that no byte comes out before its whole chunk matched its hash,
// that a session that lied is asked nothing more by that task, that every wait
// ends (in bytes, ErrNotFound or ErrStalled), and that memory is bounded
// whatever the other side sends. It does not know how a route is built, nor
// how sources are found: Route and Finder say what it needs.
package fetch
