// Package share is what the user publishes: a plain directory, and single
// files or folders elsewhere that were linked. Nothing is copied. It watches
// them, hashes what has become quiet, remembers the result in a catalogue, and
// gives blocks out of the files themselves.
//
// It promises that a block which leaves it has been hashed just before and
// matches its name; that a file is withdrawn at the first write it learns of;
// that hidden and temporary names, and symlinks that lead out, are never
// published; and that a kill at any moment costs at most some hashing. It does
// not touch the network and does not know who asks: the node tells it for
// which group of shares a session may answer.
//
// How a file gets on:
//
//	seen -> settling -> hashing -> ready (can be given)
//	          ^            |         |
//	          +- changed --+         |
//	          +------ first write, new stat, mismatch
//
// A folder is ready when everything below it that can be published is. While
// something below changes, its last CID stays valid for what has not changed.
//
// The catalogue (SQLite) holds for each file its place, device, inode, size,
// mtime and ctime beside the CID. An equal tuple is trusted without reading;
// since every block is hashed again when it is given, the worst that a wrong
// trust can do is a block that is not found.
package share
