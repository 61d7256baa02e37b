package fetch

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"wanderfs/cache/chunk"
)

// What everybody knows, and what is written out in its CID, is read without
// asking anybody.
func TestKnownNeedsNobody(t *testing.T) {
	mh, err := multihash.Sum([]byte("in the name itself"), multihash.IDENTITY, -1)
	if err != nil {
		t.Fatal(err)
	}
	inline, err := chunk.FromCID(cid.NewCidV1(cid.Raw, mh))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		inline.Name(): "in the name itself",
		"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku": "",
		"QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH":              "",
	}
	synctest.Test(t, func(t *testing.T) {
		none := &finder{}
		within(t, Config{Finder: none}, nil, func(f *Fetcher) {
			start := time.Now()
			for name, want := range files {
				r, err := chunk.Parse(name)
				if err != nil {
					t.Fatal(err)
				}
				x, err := f.Open(t.Context(), r, r)
				if err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 100)
				n, err := x.ReadAt(t.Context(), b, 0)
				if string(b[:n]) != want || err != io.EOF {
					t.Errorf("got %q, %v, want %q and the end", b[:n], err, want)
				}
				if got := f.Cached(t.Context(), r); got != 100 {
					t.Errorf("%d percent are here, want 100", got)
				}
				x.Close()
			}
			r, err := chunk.Parse("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")
			if err != nil {
				t.Fatal(err)
			}
			d, err := f.OpenDir(t.Context(), r, r)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Each(t.Context(), func(chunk.Entry) error { t.Error("an entry in nothing"); return nil }); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took != 0 || none.calls != 0 {
				t.Errorf("took %v and %d look-ups, want none", took, none.calls)
			}
		})
	})
}
