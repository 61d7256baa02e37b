package chunk

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// ErrMismatch says that data does not hash to the Ref it was offered under.
// The data must be dropped; another source may have the right bytes.
var ErrMismatch = errors.New("content does not match its hash")

// ErrBadName says that a string is no CID that this program can verify.
var ErrBadName = errors.New("not a CID of a supported kind")

// MaxName is the longest CID string, in bytes, that Parse looks at.
const MaxName = 512

// Ref names content by its hash. It is a CID that hides itself: in logs, in
// errors and in %v it prints as "[ref]", and only Name tells what it is. The
// zero Ref names nothing. Refs are comparable with == and usable as map keys;
// two CIDs of the same bytes in different bases or versions differ only if
// their codec does, because Parse makes every Ref a CIDv1.
type Ref struct{ c cid.Cid }

// MisspeltError says that a string is not how a CID is written, though it
// decodes to one: in many bases the last letter has bits to spare, which must
// be zero. Else the same content had many names, and a slip of the pen went
// unnoticed. It is an ErrBadName, and its text does not tell the CID.
type MisspeltError struct {
	Right Ref // the CID that was meant, presumably
}

func (*MisspeltError) Error() string { return "a misspelt CID" }

// Unwrap returns ErrBadName.
func (*MisspeltError) Unwrap() error { return ErrBadName }

// Parse reads a CID of version 0, or of version 1 in any base. In bases 16, 32
// and 36 the letters after the first may be of either case, as other programs
// have it, too; in all else a CID has one spelling in each base, and any other
// gives a *MisspeltError. A CID whose hash this program cannot verify gives
// ErrBadName.
func Parse(name string) (Ref, error) {
	if len(name) > MaxName {
		return Ref{}, ErrBadName
	}
	c, err := cid.Decode(name)
	if err != nil {
		return Ref{}, ErrBadName
	}
	r, err := FromCID(c)
	if err == nil && !spells(name, c) {
		return Ref{}, &MisspeltError{r}
	}
	return r, err
}

// spells reports whether name is how c is written in the base that name says.
func spells(name string, c cid.Cid) bool {
	base, err := cid.ExtractEncoding(name)
	if strings.HasPrefix(name, "🚀") { // the only base of more than one byte, which that does not know
		base, err = '🚀', nil
	}
	if err != nil {
		return false
	}
	right, err := c.StringOfBase(base)
	if err != nil {
		return false // version 0 has no other base
	}
	if strings.ContainsRune("fFbBcCvVtTkK", rune(base)) {
		return name[0] == right[0] && strings.EqualFold(name, right)
	}
	return name == right
}

// FromCID makes a Ref of c, as a CIDv1. Supported are the codecs raw and
// dag-pb, with sha2-256 or with an identity hash of at most 128 bytes; all
// others give ErrBadName.
func FromCID(c cid.Cid) (Ref, error) {
	if !c.Defined() {
		return Ref{}, ErrBadName
	}
	if t := c.Type(); t != cid.Raw && t != cid.DagProtobuf {
		return Ref{}, ErrBadName
	}
	h, err := multihash.Decode(c.Hash())
	if err != nil {
		return Ref{}, ErrBadName
	}
	switch {
	case h.Code == multihash.SHA2_256 && h.Length == sha256.Size:
	case h.Code == multihash.IDENTITY && h.Length <= 128:
	default:
		return Ref{}, ErrBadName
	}
	return Ref{cid.NewCidV1(c.Type(), c.Hash())}, nil
}

// Raw returns the Ref of data as a raw leaf.
func Raw(data []byte) Ref { return sum(cid.Raw, data) }

// PB returns the Ref of the dag-pb block data.
func PB(data []byte) Ref { return sum(cid.DagProtobuf, data) }

func sum(codec uint64, data []byte) Ref {
	d := sha256.Sum256(data)
	mh := make([]byte, 0, 2+sha256.Size)
	mh = append(mh, multihash.SHA2_256, sha256.Size)
	return Ref{cid.NewCidV1(codec, append(mh, d[:]...))}
}

// Name returns the canonical CIDv1 string in base32. It tells what is read or
// shared: use it for directory names and for the user's own eyes only.
func (r Ref) Name() string {
	if r.IsZero() {
		return ""
	}
	return r.c.String()
}

// CID returns the CID itself, a CIDv1.
func (r Ref) CID() cid.Cid { return r.c }

// Multihash returns the hash with its prefix. Look-up keys are derived from
// it, never from a CID string, so that every spelling finds the same content.
func (r Ref) Multihash() []byte { return r.c.Hash() }

// IsRaw reports whether the block is a leaf without links.
func (r Ref) IsRaw() bool { return !r.IsZero() && r.c.Type() == cid.Raw }

// IsZero reports whether r names nothing.
func (r Ref) IsZero() bool { return !r.c.Defined() }

// Inline returns the block that is written out in the CID itself (identity
// hash), if it is.
func (r Ref) Inline() ([]byte, bool) {
	// Version, codec and hash each take one byte: see FromCID.
	if r.IsZero() || r.c.KeyString()[2] != multihash.IDENTITY {
		return nil, false
	}
	h, err := multihash.Decode(r.c.Hash())
	if err != nil || h.Code != multihash.IDENTITY {
		return nil, false
	}
	return h.Digest, true
}

// Verify returns nil if data is the block that r names, else ErrMismatch.
func (r Ref) Verify(data []byte) error {
	if r.IsZero() {
		return ErrMismatch
	}
	if inline, ok := r.Inline(); ok {
		if string(inline) != string(data) {
			return ErrMismatch
		}
		return nil
	}
	h := r.c.Hash()
	d := sha256.Sum256(data)
	if string(h[len(h)-sha256.Size:]) != string(d[:]) {
		return ErrMismatch
	}
	return nil
}

// String hides the CID.
func (Ref) String() string { return "[ref]" }

// GoString hides the CID.
func (Ref) GoString() string { return "[ref]" }

// Format hides the CID under every verb.
func (Ref) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("[ref]")) }

// LogValue hides the CID.
func (Ref) LogValue() slog.Value { return slog.StringValue("[ref]") }
