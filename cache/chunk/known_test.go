package chunk

import (
	"context"
	"errors"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// nobody gives what is known and nothing else.
type nobody struct{}

func (nobody) Get(_ context.Context, r Ref) ([]byte, error) {
	if b, ok := r.Known(); ok {
		return b, nil
	}
	return nil, errors.New("asked somebody")
}

func TestKnown(t *testing.T) {
	identity := func(codec uint64, n int) cid.Cid {
		mh, err := multihash.Sum(make([]byte, n), multihash.IDENTITY, -1)
		if err != nil {
			t.Fatal(err)
		}
		return cid.NewCidV1(codec, mh)
	}
	for _, x := range []struct {
		name string // as other programs write it
		kind Kind
		size int64
	}{
		{"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", File, 0},
		{"QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH", File, 0},
		{"bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y", File, 0},
		{"bafybeia4bvfwyw6qmtltmymql7prbrtu6s6as2z7b3efscggmsqcvij5za", File, 0},
		{"QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn", Folder, 0},
		{"bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354", Folder, 0},
		{identity(cid.Raw, 128).String(), File, 128},
		{identity(cid.Raw, 0).String(), File, 0},
	} {
		r, err := Parse(x.name)
		if err != nil {
			t.Fatal(err)
		}
		b, ok := r.Known()
		if !ok || r.Verify(b) != nil {
			t.Errorf("%s: known %v, verified %v", x.name, ok, r.Verify(b))
		}
		e, err := Stat(t.Context(), nobody{}, r)
		if err != nil || e.Kind != x.kind || e.Size != x.size {
			t.Errorf("%s: got kind %v, size %d, %v; want %v, %d", x.name, e.Kind, e.Size, err, x.kind, x.size)
		}
	}
	for _, r := range []Ref{{}, Raw([]byte("x")), PB(nil)} {
		if _, ok := r.Known(); ok {
			t.Error("something else is known")
		}
	}
	if _, err := FromCID(identity(cid.Raw, 129)); !errors.Is(err, ErrBadName) {
		t.Errorf("an identity hash of 129 bytes: got %v, want %v", err, ErrBadName)
	}
}
