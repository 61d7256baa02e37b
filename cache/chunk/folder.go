package chunk

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spaolacci/murmur3"
)

// Errors of writing folders and symlinks.
var (
	// ErrBadEntry says that an entry cannot stand in a folder: its name is
	// empty, ".", "..", holds a slash or a zero byte, or comes twice; or it has
	// no Ref.
	ErrBadEntry = errors.New("entry cannot stand in a folder")
	// ErrBadTarget says that a symlink's target is empty, longer than 4095
	// bytes or holds a zero byte.
	ErrBadTarget = errors.New("bad symlink target")
)

// EncodeFolder makes a folder of entries, of which Name, Ref and Total count,
// in any order: one block, or a sharded folder where that block would be longer
// than 256 KiB. s gets the blocks and may be nil.
func EncodeFolder(entries []Entry, s Sink) (Entry, error) {
	return profile.folder(entries, s)
}

func (sh shape) folder(entries []Entry, s Sink) (Entry, error) {
	links := make([]link, len(entries))
	data := folderData()
	length, total := 2+len(data), int64(0)
	for i, e := range entries {
		if e.Ref.IsZero() || e.Total < 0 || !goodName(e.Name) || strings.Contains(e.Name, "/") {
			return Entry{}, ErrBadEntry
		}
		links[i] = link{ref: e.Ref, name: e.Name, size: uint64(e.Total)}
		length += linkLen(links[i])
		total = addClaim(total, links[i].size)
	}
	slices.SortFunc(links, func(a, b link) int { return cmp.Compare(a.name, b.name) })
	for i := 1; i < len(links); i++ {
		if links[i].name == links[i-1].name {
			return Entry{}, fmt.Errorf("%w: name twice", ErrBadEntry)
		}
	}
	if length > sh.plain {
		l, err := sh.shard(links, s)
		if err != nil {
			return Entry{}, err
		}
		return Entry{Ref: l.ref, Kind: Folder, Total: addClaim(0, l.size)}, nil
	}
	ref, own, err := emit(s, links, data)
	if err != nil {
		return Entry{}, err
	}
	return Entry{Ref: ref, Kind: Folder, Total: addClaim(total, uint64(own))}, nil
}

// hashed is a link on its way into shards.
type hashed struct {
	link
	bits hashBits
	slot int
}

// shard makes a sharded folder of links.
func (sh shape) shard(links []link, s Sink) (link, error) {
	all := make([]hashed, len(links))
	for i, l := range links {
		all[i] = hashed{link: l, bits: hashBits{hash: murmur3.Sum64([]byte(l.name)), left: 64}}
	}
	// Sorted by hash, each shard's entries lie side by side.
	slices.SortFunc(all, func(a, b hashed) int { return cmp.Compare(a.bits.hash, b.bits.hash) })
	return sh.subShard(all, s)
}

func (sh shape) subShard(all []hashed, s Sink) (link, error) {
	for i := range all {
		var ok bool
		if all[i].slot, ok = all[i].bits.next(sh.fanout); !ok {
			return link{}, fmt.Errorf("%w: names with one hash", ErrBadEntry)
		}
	}
	var links []link
	var slots []int
	var total int64
	width := prefixLen(sh.fanout)
	for len(all) > 0 {
		n, slot := 1, all[0].slot
		for n < len(all) && all[n].slot == slot {
			n++
		}
		l := all[0].link
		if n > 1 {
			var err error
			if l, err = sh.subShard(all[:n], s); err != nil {
				return link{}, err
			}
		}
		l.name = prefix(slot, width) + l.name
		links, slots = append(links, l), append(slots, slot)
		total = addClaim(total, l.size)
		all = all[n:]
	}
	ref, own, err := emit(s, links, shardData(slots, sh.fanout))
	return link{ref: ref, size: uint64(addClaim(total, uint64(own)))}, err
}

// EncodeSymlink makes a symlink. s gets the block and may be nil.
func EncodeSymlink(target string, s Sink) (Entry, error) {
	if target == "" || len(target) > maxTarget || strings.IndexByte(target, 0) >= 0 {
		return Entry{}, ErrBadTarget
	}
	ref, own, err := emit(s, nil, symlinkData(target))
	if err != nil {
		return Entry{}, err
	}
	return Entry{Ref: ref, Kind: Symlink, Size: int64(len(target)), Total: own, Target: target}, nil
}
