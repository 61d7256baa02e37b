// Package chunk is the vocabulary of content: what names it (Ref), what it is
// (Entry, Result), and how files and folders become blocks and blocks become
// files and folders again (UnixFS, profile unixfs-v1-2025).
//
// It promises that no byte comes out which does not match its hash, and that
// hostile blocks end in an error. It does not store or fetch: blocks come from
// a Getter.
package chunk
