package chunk

import (
	"encoding/binary"
	"math/bits"
)

// Types of UnixFS nodes.
const (
	typeRaw      = 0
	typeFolder   = 1
	typeFile     = 2
	typeMetadata = 3 // never in use; refused
	typeSymlink  = 4
	typeShard    = 5
)

const murmur = 0x22 // multicodec murmur3-x64-64, the only hash of shards

// data is the decoded UnixFS Data message of a dag-pb node.
type data struct {
	kind    uint64
	body    []byte // content, target or bitfield
	size    uint64
	hasSize bool
	sizes   []uint64
	hash    uint64
	fanout  uint64
}

// decodeData reads Data{Type = 1, Data = 2, filesize = 3, blocksizes = 4,
// hashType = 5, fanout = 6, mode = 7, mtime = 8}. Mode and time are skipped.
func decodeData(b []byte) (data, error) {
	var d data
	typed := false
	for len(b) > 0 {
		f, body, v, rest, ok := field(b)
		if !ok {
			return data{}, hostile("bad UnixFS field")
		}
		b = rest
		switch f {
		case 1<<3 | wireVarint:
			typed, d.kind = true, v
		case 2<<3 | wireBytes:
			d.body = body
		case 3<<3 | wireVarint:
			d.hasSize, d.size = true, v
		case 4<<3 | wireVarint:
			if len(d.sizes) == maxLinks {
				return data{}, hostile("too many block sizes")
			}
			d.sizes = append(d.sizes, v)
		case 4<<3 | wireBytes: // packed
			for len(body) > 0 {
				v, n := binary.Uvarint(body)
				if n <= 0 || len(d.sizes) == maxLinks {
					return data{}, hostile("bad block sizes")
				}
				d.sizes, body = append(d.sizes, v), body[n:]
			}
		case 5<<3 | wireVarint:
			d.hash = v
		case 6<<3 | wireVarint:
			d.fanout = v
		}
	}
	if !typed || d.kind > typeShard || d.kind == typeMetadata {
		return data{}, hostile("not a known kind of node")
	}
	return d, nil
}

// decode reads a dag-pb block and the UnixFS message in it.
func decode(block []byte) (node, data, error) {
	n, err := decodeNode(block)
	if err != nil {
		return node{}, data{}, err
	}
	d, err := decodeData(n.data)
	return n, d, err
}

// fileNode is a file's node made ready for reading: its own content first,
// then the children in order.
type fileNode struct {
	inline []byte
	refs   []Ref
	ends   []int64 // of each child's content, from the node's start
	size   int64
}

// cost estimates the memory, in bytes, that n holds.
func (n *fileNode) cost() int { return 256 + len(n.inline) + 80*len(n.refs) }

// start returns where child i's content begins.
func (n *fileNode) start(i int) int64 {
	if i == 0 {
		return int64(len(n.inline))
	}
	return n.ends[i-1]
}

// newFileNode checks that sizes agree with each other: as many as links, none
// larger than their sum, raw children no longer than a block.
func newFileNode(n node, d data) (*fileNode, error) {
	if d.kind == typeRaw && len(n.links) > 0 {
		return nil, hostile("leaf with links")
	}
	if len(d.sizes) != len(n.links) {
		return nil, hostile("block sizes do not match links")
	}
	f := &fileNode{inline: d.body, size: int64(len(d.body))}
	if len(n.links) > 0 {
		f.refs = make([]Ref, len(n.links))
		f.ends = make([]int64, len(n.links))
	}
	for i, l := range n.links {
		s := d.sizes[i]
		switch {
		case l.name != "":
			return nil, hostile("named part of a file")
		case l.ref.IsZero():
			return nil, hostile("unsupported part of a file")
		case s > maxFile || f.size+int64(s) > maxFile:
			return nil, hostile("file too long")
		case l.ref.IsRaw() && s > MaxBlock:
			return nil, hostile("leaf too long")
		}
		f.size += int64(s)
		f.refs[i], f.ends[i] = l.ref, f.size
	}
	if d.hasSize && d.size != uint64(f.size) || !d.hasSize && len(n.links) > 0 {
		return nil, hostile("file size does not match its parts")
	}
	return f, nil
}

// shard is a HAMT node made ready for reading.
type shard struct {
	fanout int
	slots  []uint16 // ascending; one for each link
	links  []link   // names without their prefix; empty for a sub-shard
}

func (s *shard) cost() int {
	n := 256
	for _, l := range s.links {
		n += 100 + len(l.name)
	}
	return n
}

// newShard checks that bitfield, links and their prefixes say the same.
func newShard(n node, d data) (*shard, error) {
	fan := int(min(d.fanout, maxFanout+1))
	if d.hash != murmur || fan < minFanout || fan > maxFanout || bits.OnesCount(uint(fan)) != 1 {
		return nil, hostile("unsupported shard")
	}
	if len(n.links) > fan || len(d.body) > fan/8 {
		return nil, hostile("shard larger than its fanout")
	}
	s := &shard{fanout: fan, links: n.links}
	for i := len(d.body) - 1; i >= 0; i-- { // big-endian: the last byte holds slots 0-7
		for j := range 8 {
			if d.body[i]>>j&1 == 1 {
				s.slots = append(s.slots, uint16((len(d.body)-1-i)*8+j))
			}
		}
	}
	if len(s.slots) != len(s.links) {
		return nil, hostile("shard's bitfield does not match its links")
	}
	width := prefixLen(fan)
	for i := range s.links {
		name := s.links[i].name
		if len(name) < width || name[:width] != prefix(int(s.slots[i]), width) {
			return nil, hostile("shard's link in the wrong place")
		}
		s.links[i].name = name[width:]
	}
	return s, nil
}

// prefixLen returns how many hex digits name a slot.
func prefixLen(fanout int) int { return (bits.Len(uint(fanout-1)) + 3) / 4 }

// prefix returns slot in upper-case hex digits.
func prefix(slot, width int) string {
	const digits = "0123456789ABCDEF"
	b := [4]byte{}
	for i := width - 1; i >= 0; i-- {
		b[i] = digits[slot&15]
		slot >>= 4
	}
	return string(b[:width])
}

// Encoders of what this program writes.

func fileData(sizes []int64) []byte {
	var sum int64
	for _, s := range sizes {
		sum += s
	}
	b := make([]byte, 0, 12+5*len(sizes))
	b = append(b, 1<<3|wireVarint, typeFile, 3<<3|wireVarint)
	b = binary.AppendUvarint(b, uint64(sum))
	for _, s := range sizes {
		b = append(b, 4<<3|wireVarint)
		b = binary.AppendUvarint(b, uint64(s))
	}
	return b
}

func folderData() []byte { return []byte{1<<3 | wireVarint, typeFolder} }

func symlinkData(target string) []byte {
	b := []byte{1<<3 | wireVarint, typeSymlink, 2<<3 | wireBytes}
	b = binary.AppendUvarint(b, uint64(len(target)))
	return append(b, target...)
}

// shardData encodes a shard; slots are ascending.
func shardData(slots []int, fanout int) []byte {
	field := make([]byte, fanout/8)
	for _, s := range slots {
		field[len(field)-1-s/8] |= 1 << (s % 8)
	}
	for len(field) > 0 && field[0] == 0 {
		field = field[1:]
	}
	b := []byte{1<<3 | wireVarint, typeShard, 2<<3 | wireBytes}
	b = binary.AppendUvarint(b, uint64(len(field)))
	b = append(b, field...)
	b = append(b, 5<<3|wireVarint, murmur, 6<<3|wireVarint)
	return binary.AppendUvarint(b, uint64(fanout))
}

func log2(fanout int) int { return bits.TrailingZeros(uint(fanout)) }
