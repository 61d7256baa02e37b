package chunk

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// Protobuf wire types.
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

// link is one link of a dag-pb block. A CID of a kind that this program cannot
// verify leaves ref zero.
type link struct {
	ref  Ref
	name string
	size uint64 // Tsize, a claim
}

// node is a decoded dag-pb block. Its data is a part of the block.
type node struct {
	links []link
	data  []byte
}

// decodeNode reads a dag-pb block: PBNode{Data = 1, Links = 2}, in either
// order, PBLink{Hash = 1, Name = 2, Tsize = 3}. Unknown and doubled fields are
// errors (specification of dag-pb, "strictness").
func decodeNode(block []byte) (node, error) {
	var n node
	if len(block) > MaxBlock {
		return n, hostile("block too long")
	}
	seenData, ended := false, false
	for b := block; len(b) > 0; {
		f, body, _, rest, ok := field(b)
		if !ok {
			return node{}, hostile("bad node field")
		}
		b = rest
		switch f {
		case 1<<3 | wireBytes:
			if seenData {
				return node{}, hostile("data twice")
			}
			seenData, n.data = true, body
			ended = len(n.links) > 0
		case 2<<3 | wireBytes:
			if ended {
				return node{}, hostile("links in two groups")
			}
			if len(n.links) == maxLinks {
				return node{}, hostile("too many links")
			}
			l, err := decodeLink(body)
			if err != nil {
				return node{}, err
			}
			n.links = append(n.links, l)
		default:
			return node{}, hostile("unknown node field")
		}
	}
	return n, nil
}

func decodeLink(b []byte) (link, error) {
	var l link
	seen := [4]bool{}
	for len(b) > 0 {
		f, body, v, rest, ok := field(b)
		if !ok {
			return link{}, hostile("bad link field")
		}
		b = rest
		if i := f >> 3; i > 3 || seen[i] {
			return link{}, hostile("link field twice or unknown")
		}
		seen[f>>3] = true
		switch f {
		case 1<<3 | wireBytes:
			c, err := cid.Cast(body)
			if err != nil {
				return link{}, hostile("bad CID in link")
			}
			if common(body) {
				l.ref = Ref{c}
			} else {
				l.ref, _ = FromCID(c) // zero if unsupported: the rest of a folder is still good
			}
		case 2<<3 | wireBytes:
			l.name = string(body)
		case 3<<3 | wireVarint:
			l.size = v
		default:
			return link{}, hostile("unknown link field")
		}
	}
	if !seen[1] {
		return link{}, hostile("link without hash")
	}
	return l, nil
}

// common reports whether b is a CIDv1 of raw or dag-pb with sha2-256, which is
// what nearly all links are.
func common(b []byte) bool {
	return len(b) == 4+sha256.Size && b[0] == 1 && (b[1] == cid.Raw || b[1] == cid.DagProtobuf) &&
		b[2] == multihash.SHA2_256 && b[3] == sha256.Size
}

// field takes one protobuf field from b: its key, and its bytes or its number.
func field(b []byte) (key uint64, body []byte, v uint64, rest []byte, ok bool) {
	key, n := binary.Uvarint(b)
	if n <= 0 || key>>3 == 0 || key > 1<<32-1 {
		return 0, nil, 0, nil, false
	}
	b = b[n:]
	switch key & 7 {
	case wireVarint:
		v, n = binary.Uvarint(b)
		if n <= 0 {
			return 0, nil, 0, nil, false
		}
		return key, nil, v, b[n:], true
	case wireBytes:
		v, n = binary.Uvarint(b)
		if n <= 0 || v > uint64(len(b)-n) {
			return 0, nil, 0, nil, false
		}
		b = b[n:]
		return key, b[:v:v], 0, b[v:], true
	case wire64, wire32:
		w := 8
		if key&7 == wire32 {
			w = 4
		}
		if len(b) < w {
			return 0, nil, 0, nil, false
		}
		return key, b[:w:w], 0, b[w:], true
	}
	return 0, nil, 0, nil, false // groups are no part of these formats
}

// appendNode encodes a block as the profile wants it: links first, each with
// its name, also an empty one, and its Tsize.
func appendNode(b []byte, links []link, data []byte) []byte {
	for _, l := range links {
		b = append(b, 2<<3|wireBytes)
		b = binary.AppendUvarint(b, uint64(linkBody(l)))
		c := l.ref.c.KeyString()
		b = append(b, 1<<3|wireBytes)
		b = binary.AppendUvarint(b, uint64(len(c)))
		b = append(b, c...)
		b = append(b, 2<<3|wireBytes)
		b = binary.AppendUvarint(b, uint64(len(l.name)))
		b = append(b, l.name...)
		b = append(b, 3<<3|wireVarint)
		b = binary.AppendUvarint(b, l.size)
	}
	b = append(b, 1<<3|wireBytes)
	b = binary.AppendUvarint(b, uint64(len(data)))
	return append(b, data...)
}

// linkBody returns the length of an encoded link without key and length.
func linkBody(l link) int {
	c := len(l.ref.c.KeyString())
	return 3 + uvarintLen(uint64(c)) + c + uvarintLen(uint64(len(l.name))) + len(l.name) + uvarintLen(l.size)
}

// linkLen returns the length of a whole encoded link.
func linkLen(l link) int {
	n := linkBody(l)
	return 1 + uvarintLen(uint64(n)) + n
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
