// Package chunk is the vocabulary of content: what names it (Ref), what it is
// (Entry, Result), and how files and folders become blocks and blocks become
// files and folders again (UnixFS, profile unixfs-v1-2025).
//
// It promises that no byte comes out which does not match its hash, as far as
// its Getter gives verified blocks, and that hostile blocks end in an error:
// limits.go says what is refused. It does not store or fetch: blocks come from
// a Getter and go to a Sink. It writes one profile and reads any UnixFS of
// sha2-256: versions 0 and 1, every layout, plain and sharded folders.
package chunk
