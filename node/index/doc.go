// Package index is how content is found: names become words, words become
// sealed postings, and a content hash leads to the sessions that serve it.
//
// Three kinds of record live at the super nodes nearest to their address:
//
//	posting  H(K_w)           a name, CID, size and kind, sealed under K_w, the key
//	                          that everybody who knows the word w can derive
//	pointer  H(multihash)     sealed under a key derived from the multihash:
//	                          which group record, and its key
//	group    H(write key)     sealed {wire.Source}: where a session can be met
//
// A super node (Store) sees addresses, two-byte blinded tags of a name's other
// words, a type class and the binary logarithm of the size; it reads no name
// and no CID and can list what it holds only by guessing words. Common words
// can be guessed. The far end of a path (Far) finds the super nodes and merges
// their answers; it learns an address and tags, never who asked. When the
// nearest do not know, the far end lets a get walk on from super node to super
// node (Server) through the region of its address. PROTOCOL.md has the bytes.
//
// The asking side (Search, Find, Put) verifies every signature, opens records
// and checks that a name really holds the words asked for. Whether the content
// behind a row exists is not known here: that takes reading its root block.
//
// Nothing here dials anybody: a path (Asker) and a Router are handed in.
package index
