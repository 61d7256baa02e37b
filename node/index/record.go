package index

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"time"

	"wanderfs/relay/wire"
)

// RecordVersion is the first byte of every record, request and answer.
const RecordVersion = 1

// RecordKind says what a Record is.
type RecordKind uint8

// The kinds of record.
const (
	Posting   RecordKind = 1
	Pointer   RecordKind = 2
	GroupInfo RecordKind = 3
)

// Life of records. A store refuses what would live longer.
const (
	// PostingLife is how long postings and pointers are published for.
	PostingLife = 72 * time.Hour
	// maxExpiry is the largest time, in Unix seconds, that decoders take.
	maxExpiry = 1 << 40
)

// Layout of a record, version 1. Numbers are big-endian, offsets in bytes.
//
//	 0  version   1
//	 1  kind      1
//	 2  form      1  posting: 0 short, 1 long; else 0
//	 3  address  32  where it is stored
//	35  expires   8  Unix seconds
//	43  seq       8  group: higher replaces lower; else 0
//	51  stamp     8  reserved: stamp of work
//	59  cert     16  reserved: which certificate vouches for the key
//	75  push      1  reserved: push-and-leave, chunks kept at gateways
//	76  class     1  posting: type class; else 0
//	77  log2      1  posting: bit length of the size; else 0
//	78  tags      2 x 24 (short), 2 x 63 (long), sorted; only in postings
//	    sealed   nonce 12, ciphertext, tag 16
//	    key      32  Ed25519
//	    sig      64  over label(network) and all before it
//
// The reserved fields are signed and otherwise ignored in version 1; writers
// of version 1 leave them zero.
const (
	offForm    = 2
	offAddr    = 3
	offExpires = 35
	offSeq     = 43
	offClass   = 76
	offLog     = 77
	offTags    = 78

	shortTags, longTags = 24, MaxTokens - 1
	maxTags             = 31 // tags in a query
	shortBody, longBody = 144, 416
	pointerBody         = 64

	shortSize    = offTags + 2*shortTags + sealExtra + shortBody + 96
	longSize     = offTags + 2*longTags + sealExtra + longBody + 96
	pointerSize  = offTags + sealExtra + pointerBody + 96
	groupSize    = offTags + sealExtra + wire.SourceSize + 96
	minRecord    = pointerSize
	maxRecord    = max(longSize, groupSize)
	headerLength = offTags
)

// recordID tells records under one address apart. It hangs on the signing key
// and the sealed part, so that a refresh replaces its predecessor.
type recordID [16]byte

// Record is a signed entry of the index as it travels and is stored. Its
// bytes are never changed after it was made.
type Record struct{ b []byte }

// recordSize returns the length of the record that begins with b, or 0.
func recordSize(b []byte) int {
	if len(b) < headerLength || b[0] != RecordVersion {
		return 0
	}
	switch RecordKind(b[1]) {
	case Posting:
		switch b[offForm] {
		case 0:
			return shortSize
		case 1:
			return longSize
		}
	case Pointer:
		return pointerSize
	case GroupInfo:
		return groupSize
	}
	return 0
}

// ParseRecord reads exactly one record and copies it. It checks the form, not
// the signature; an error is wire.ErrMalformed.
func ParseRecord(b []byte) (Record, error) {
	if n := recordSize(b); n == 0 || n != len(b) {
		return Record{}, wire.ErrMalformed
	}
	r := Record{append([]byte(nil), b...)}
	if err := r.check(); err != nil {
		return Record{}, err
	}
	return r, nil
}

func (r Record) check() error {
	if binary.BigEndian.Uint64(r.b[offExpires:]) > maxExpiry {
		return wire.ErrMalformed
	}
	if k := r.Kind(); k != Posting && (r.b[offForm] != 0 || r.b[offClass] != 0 || r.b[offLog] != 0) {
		return wire.ErrMalformed
	}
	if r.Kind() != GroupInfo && r.Seq() != 0 {
		return wire.ErrMalformed
	}
	if r.b[offLog] > 64 || r.b[offClass] > classMax {
		return wire.ErrMalformed
	}
	tags := r.tags()
	for i := 2; i < len(tags); i += 2 {
		if binary.BigEndian.Uint16(tags[i-2:]) > binary.BigEndian.Uint16(tags[i:]) {
			return wire.ErrMalformed
		}
	}
	return nil
}

// Kind returns what r is.
func (r Record) Kind() RecordKind { return RecordKind(r.b[1]) }

// Address returns the key whose nearest super nodes hold r.
func (r Record) Address() [32]byte { return [32]byte(r.b[offAddr:]) }

// Expires returns when r ends.
func (r Record) Expires() time.Time {
	return time.Unix(int64(binary.BigEndian.Uint64(r.b[offExpires:])), 0)
}

// lives reports whether r has not ended. Askers check it too: a super node may
// show what it should have forgotten.
func (r Record) lives() bool { return time.Now().Before(r.Expires()) }

// Seq returns a group record's number; a higher one replaces a lower one.
func (r Record) Seq() uint64 { return binary.BigEndian.Uint64(r.b[offSeq:]) }

// Bytes returns the encoding. The caller must not write to it.
func (r Record) Bytes() []byte { return r.b }

func (r Record) tags() []byte {
	if r.Kind() != Posting {
		return nil
	}
	n := shortTags
	if r.b[offForm] == 1 {
		n = longTags
	}
	return r.b[offTags : offTags+2*n]
}

func (r Record) sealed() []byte { return r.b[offTags+len(r.tags()) : len(r.b)-96] }
func (r Record) key() [32]byte  { return [32]byte(r.b[len(r.b)-96:]) }

func (r Record) id() recordID {
	if r.Kind() == GroupInfo {
		return recordID(r.b[offAddr:])
	}
	h := sha256.New()
	h.Write([]byte("wanderfs/index/id/1\x00"))
	h.Write(r.b[1:2])
	k := r.key()
	h.Write(k[:])
	h.Write(r.sealed())
	return recordID(h.Sum(nil))
}

// hasTag reports whether the tag is among r's, which are sorted.
func (r Record) hasTag(t [2]byte) bool {
	tags := r.tags()
	want := binary.BigEndian.Uint16(t[:])
	lo, hi := 0, len(tags)/2
	for lo < hi {
		mid := (lo + hi) / 2
		if binary.BigEndian.Uint16(tags[2*mid:]) < want {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo < len(tags)/2 && binary.BigEndian.Uint16(tags[2*lo:]) == want
}

// sigLabel binds signatures to one network, "" being "main".
func sigLabel(network string) string {
	if network == "" {
		network = "main"
	}
	return "wanderfs/" + network + "/record/1\x00"
}

// Verify checks the signature for one network, and that a group record's
// address belongs to its key. The error is wire.ErrBadSignature.
func (r Record) Verify(network string) error {
	key := r.key()
	if r.Kind() == GroupInfo && r.Address() != groupAddress(key) {
		return wire.ErrBadSignature
	}
	msg := append([]byte(sigLabel(network)), r.b[:len(r.b)-64]...)
	if !ed25519.Verify(key[:], msg, r.b[len(r.b)-64:]) {
		return wire.ErrBadSignature
	}
	return nil
}

// newRecord builds and signs a record from its parts.
func newRecord(network string, kind RecordKind, form byte, addr [32]byte, expires time.Time, seq uint64, facets [2]byte, tags, sealed []byte, key ed25519.PrivateKey) Record {
	b := make([]byte, 0, maxRecord)
	b = append(b, RecordVersion, byte(kind), form)
	b = append(b, addr[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(max(0, expires.Unix())))
	b = binary.BigEndian.AppendUint64(b, seq)
	b = append(b, make([]byte, offClass-51)...) // stamp, cert, push
	b = append(b, facets[:]...)
	b = append(b, tags...)
	b = append(b, sealed...)
	b = append(b, key.Public().(ed25519.PublicKey)...)
	b = append(b, ed25519.Sign(key, append([]byte(sigLabel(network)), b...))...)
	return Record{b}
}

// coarse rounds far expiries down to the hour, so that records which one
// publisher made in one minute are not told apart from others by their second.
func coarse(t time.Time) time.Time {
	if time.Until(t) > 2*time.Hour {
		return t.Truncate(time.Hour)
	}
	return t
}

// String hides the record.
func (Record) String() string { return "[record]" }

// GoString hides the record.
func (Record) GoString() string { return "[record]" }

// LogValue hides the record.
func (Record) LogValue() slog.Value { return slog.StringValue("[record]") }
