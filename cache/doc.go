// Package cache is a bounded store of verified, encrypted chunks on disk, and
// of a few small sealed files beside them.
//
// It promises that no byte comes out which does not match its hash: a chunk is
// verified when it is put and again at its first read after opening, and a
// file that is damaged, cut short or changed by others is a miss and removed.
// Nothing depends on fsync or on an orderly end: after a crash there are fewer
// chunks, never wrong ones. The disk shows neither content nor CIDs: names are
// HMACs of multihashes and bodies are encrypted, all under one key that lies
// in a file of mode 0600 or in memory only. (Sizes and times of the files, and
// how many there are, are visible.)
//
// It does not fetch, and it does not promise to keep: what is not pinned goes
// when space is needed.
//
// The directory:
//
//	lock           held while a process has the cache open
//	key            32 random bytes, mode 0600 (absent with Config.Memory)
//	mark           HMAC under the key; another key's files are cleared by it
//	pins           records of 64 bytes, sealed; see pins.go
//	chunks/ab/…    one file a chunk, named by 32 hex digits: exactly the
//	               encrypted bytes, no header
//	sealed/NAME    small files written by Seal
//	tmp/           files being written, cleared at opening
package cache
