package index

import (
	"bytes"
	"encoding/binary"

	"wanderfs/relay/wire"
)

// MaxMessage is the longest request or answer in bytes: what one Ask carries.
const MaxMessage = 512 << 10

const (
	opPut = 1
	opGet = 2
	// opWalk is a get that is passed on from super node to super node.
	opWalk = 3
	// opAnswer is added to the op in answers.
	opAnswer = 0x80

	maxPut    = 1024 // records in one put
	maxPage   = 256  // records that one super node gives in one answer
	getLength = 2 + 1 + 32 + 16 + 16 + 1 + 4 + 1 + 1 + 2 + 1 + 2*maxTags
	gotHead   = 2 + 1 + 16 + 4 + 1 + 2
	putHead   = 2 + 2
)

// getRequest asks for the records under one address. Lists are circles in the
// order of record ids: reading begins at Start, and After says where the page
// before ended. So a seed chooses which part of a long list is seen first,
// alike at every replica.
//
//	version 1, op 1, kind 1, addr 32, start 16, after 16, resume 1,
//	classes 4 (mask, 0 = all), minLog 1, maxLog 1 (0 = no bound), limit 2,
//	tags 1, tag 2 x 31 (unused ones zero)
type getRequest struct {
	Kind           RecordKind
	Addr           [32]byte
	Start, After   recordID
	Resume         bool // After is meant
	Classes        uint32
	MinLog, MaxLog byte
	Limit          int
	Tags           [][2]byte
}

func (g getRequest) encode() []byte {
	b := make([]byte, 0, getLength)
	b = append(b, RecordVersion, opGet, byte(g.Kind))
	b = append(b, g.Addr[:]...)
	b = append(b, g.Start[:]...)
	b = append(b, g.After[:]...)
	b = append(b, bit(g.Resume))
	b = binary.BigEndian.AppendUint32(b, g.Classes)
	b = append(b, g.MinLog, g.MaxLog)
	b = binary.BigEndian.AppendUint16(b, uint16(g.Limit))
	b = append(b, byte(len(g.Tags)))
	for _, t := range g.Tags {
		b = append(b, t[:]...)
	}
	return b[:getLength]
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func parseGet(b []byte) (getRequest, error) {
	var g getRequest
	if len(b) != getLength || b[0] != RecordVersion || b[1] != opGet {
		return g, wire.ErrMalformed
	}
	g.Kind = RecordKind(b[2])
	g.Addr, g.Start, g.After = [32]byte(b[3:]), recordID(b[35:]), recordID(b[51:])
	g.Resume = b[67] == 1
	g.Classes, g.MinLog, g.MaxLog = binary.BigEndian.Uint32(b[68:]), b[72], b[73]
	g.Limit = int(binary.BigEndian.Uint16(b[74:]))
	n := int(b[76])
	if g.Kind < Posting || g.Kind > GroupInfo || b[67] > 1 || n > maxTags || g.Limit == 0 || g.Limit > maxPage {
		return getRequest{}, wire.ErrMalformed
	}
	if g.Kind != Posting && (n > 0 || g.Classes != 0 || g.MinLog != 0 || g.MaxLog != 0) {
		return getRequest{}, wire.ErrMalformed
	}
	for i := range n {
		g.Tags = append(g.Tags, [2]byte(b[77+2*i:]))
	}
	for _, x := range b[77+2*n:] {
		if x != 0 {
			return getRequest{}, wire.ErrMalformed
		}
	}
	return g, nil
}

// fits reports whether r is an answer to g.
func (g getRequest) fits(r Record) bool {
	return r.Kind() == g.Kind && r.Address() == g.Addr && g.accepts(r)
}

// accepts reports whether a record of the right address passes the filters.
func (g getRequest) accepts(r Record) bool {
	if g.Classes != 0 && g.Classes&(1<<(r.b[offClass]&31)) == 0 {
		return false
	}
	if l := r.b[offLog]; l < g.MinLog || g.MaxLog != 0 && l > g.MaxLog {
		return false
	}
	for _, t := range g.Tags {
		if !r.hasTag(t) {
			return false
		}
	}
	return true
}

// before orders ids on the circle that begins at start.
func before(start, a, b recordID) bool {
	wa, wb := bytes.Compare(a[:], start[:]) < 0, bytes.Compare(b[:], start[:]) < 0
	if wa != wb {
		return wb
	}
	return bytes.Compare(a[:], b[:]) < 0
}

// getAnswer holds a page of records.
//
//	version 1, op 1, more 1, next 16, total 4, load 1, count 2, records
type getAnswer struct {
	More    bool     // there may be more after Next
	Next    recordID // where to resume
	Total   uint32   // records under the address, before filters
	Load    byte     // how full the store is, 255 = full
	Records []Record
}

func (a getAnswer) encode() []byte {
	size := gotHead
	for _, r := range a.Records {
		size += len(r.b)
	}
	b := make([]byte, 0, size)
	b = append(b, RecordVersion, opGet|opAnswer, bit(a.More))
	b = append(b, a.Next[:]...)
	b = binary.BigEndian.AppendUint32(b, a.Total)
	b = append(b, a.Load)
	b = binary.BigEndian.AppendUint16(b, uint16(len(a.Records)))
	for _, r := range a.Records {
		b = append(b, r.b...)
	}
	return b
}

func parseGot(b []byte) (getAnswer, error) {
	var a getAnswer
	if len(b) < gotHead || len(b) > MaxMessage || b[0] != RecordVersion || b[1] != opGet|opAnswer || b[2] > 1 {
		return a, wire.ErrMalformed
	}
	a.More, a.Next = b[2] == 1, recordID(b[3:])
	a.Total, a.Load = binary.BigEndian.Uint32(b[19:]), b[23]
	recs, err := parseRecords(b[gotHead:], int(binary.BigEndian.Uint16(b[24:])))
	if err != nil {
		return getAnswer{}, err
	}
	a.Records = recs
	return a, nil
}

// parseRecords reads exactly n records that fill b.
func parseRecords(b []byte, n int) ([]Record, error) {
	if n > len(b)/minRecord {
		return nil, wire.ErrMalformed
	}
	recs := make([]Record, 0, n)
	for range n {
		size := recordSize(b)
		if size == 0 || size > len(b) {
			return nil, wire.ErrMalformed
		}
		r, err := ParseRecord(b[:size])
		if err != nil {
			return nil, err
		}
		recs, b = append(recs, r), b[size:]
	}
	if len(b) != 0 {
		return nil, wire.ErrMalformed
	}
	return recs, nil
}

// A put is: version 1, op 1, count 2, records.
func encodePut(recs []Record) []byte {
	b := []byte{RecordVersion, opPut, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(len(recs)))
	for _, r := range recs {
		b = append(b, r.b...)
	}
	return b
}

func parsePut(b []byte) ([]Record, error) {
	if len(b) < putHead || len(b) > MaxMessage || b[0] != RecordVersion || b[1] != opPut {
		return nil, wire.ErrMalformed
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n == 0 || n > maxPut {
		return nil, wire.ErrMalformed
	}
	return parseRecords(b[putHead:], n)
}

// A put's answer is: version 1, op 1, load 1, count 2, and for each record the
// number of copies stored, 1 byte.
func encodeCopies(load byte, copies []byte) []byte {
	b := []byte{RecordVersion, opPut | opAnswer, load, 0, 0}
	binary.BigEndian.PutUint16(b[3:], uint16(len(copies)))
	return append(b, copies...)
}

// parseCopies expects an answer for n records.
func parseCopies(b []byte, n int) ([]byte, error) {
	if len(b) != 5+n || b[0] != RecordVersion || b[1] != opPut|opAnswer || int(binary.BigEndian.Uint16(b[3:])) != n {
		return nil, wire.ErrMalformed
	}
	return bytes.Clone(b[5:]), nil
}
