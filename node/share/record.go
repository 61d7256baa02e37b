package share

import (
	"encoding/binary"
	"errors"

	"github.com/ipfs/go-cid"

	"wanderfs/cache/chunk"
)

var errRecord = errors.New("damaged catalogue row")

// A row's data, all numbers as varints:
//
//	version 1 | flags | dev ino size mtime ctime | group+1 | sum (16 bytes)
//	| Size Total | len CID | len Target
const (
	recordVersion = 1
	flagRacy      = 1
)

func (n *node) record() []byte {
	b := make([]byte, 0, 128)
	flags := byte(0)
	if n.racy {
		flags |= flagRacy
	}
	b = append(b, recordVersion, flags)
	b = binary.AppendUvarint(b, n.stat.dev)
	b = binary.AppendUvarint(b, n.stat.ino)
	b = binary.AppendVarint(b, n.stat.size)
	b = binary.AppendVarint(b, n.stat.mtime)
	b = binary.AppendVarint(b, n.stat.ctime)
	b = binary.AppendVarint(b, int64(n.group)+1)
	b = binary.BigEndian.AppendUint64(b, n.sum[0])
	b = binary.BigEndian.AppendUint64(b, n.sum[1])
	b = binary.AppendVarint(b, n.entry.Size)
	b = binary.AppendVarint(b, n.entry.Total)
	var c []byte
	if !n.entry.Ref.IsZero() {
		c = n.entry.Ref.CID().Bytes()
	}
	b = binary.AppendUvarint(b, uint64(len(c)))
	b = append(b, c...)
	b = binary.AppendUvarint(b, uint64(len(n.entry.Target)))
	return append(b, n.entry.Target...)
}

// parse fills n from a row's data.
func (n *node) parse(b []byte) error {
	if len(b) < 2 || b[0] != recordVersion || b[1] > flagRacy {
		return errRecord
	}
	n.racy = b[1]&flagRacy != 0
	d := decoder{b: b[2:]}
	n.stat.dev, n.stat.ino = d.uvarint(), d.uvarint()
	n.stat.size, n.stat.mtime, n.stat.ctime = d.varint(), d.varint(), d.varint()
	n.group = int(d.varint()) - 1
	n.sum[0], n.sum[1] = d.uint64(), d.uint64()
	n.entry = chunk.Entry{Kind: n.kind, Size: d.varint(), Total: d.varint()}
	c := d.bytes()
	n.entry.Target = string(d.bytes())
	if d.bad || len(d.b) != 0 || n.group < -1 || n.group >= maxGroups || n.entry.Size < 0 || n.entry.Total < 0 {
		return errRecord
	}
	if len(c) == 0 {
		return nil
	}
	id, err := cid.Cast(c)
	if err != nil {
		return errRecord
	}
	n.entry.Ref, err = chunk.FromCID(id)
	return err
}

// decoder takes fields off b. What does not fit makes it bad, and all that
// follows zero.
type decoder struct {
	b   []byte
	bad bool
}

// skip leaves out the bytes that a number took; none means that it was none.
func (d *decoder) skip(n int) {
	if n <= 0 {
		d.bad, d.b = true, nil
		return
	}
	d.b = d.b[n:]
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b) // v is 0 where there is none
	d.skip(n)
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b) // likewise
	d.skip(n)
	return v
}

func (d *decoder) uint64() uint64 {
	b := d.take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (d *decoder) bytes() []byte { return d.take(d.uvarint()) }

// take gives the next n bytes, nil where there are fewer.
func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}
