package chunk

import (
	"bytes"
	"context"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	ctx := context.Background()
	for _, n := range []int{0, 1, 100, 256, 257, 5000, 70000} {
		src := formula(1, n)
		sh := shape{size: 16, links: 4, fanout: 256, plain: 256 << 10}
		m := newMemory(src)
		e, err := sh.file(ctx, bytes.NewReader(src), int64(n), m, 3)
		if err != nil {
			t.Fatal(err)
		}
		m2 := newMemory(src)
		e2, err := sh.stream(ctx, bytes.NewReader(src), m2, 2)
		if err != nil || e2 != e {
			t.Fatal(err, e2, e)
		}
		for _, g := range []Getter{m, &ranged{memory: m}} {
			f, err := OpenFile(ctx, g, e.Ref)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, n)
			if k, err := f.ReadAt(ctx, got, 0); k != n || err != nil && n > 0 || !bytes.Equal(got, src) {
				t.Fatal(k, err)
			}
		}
	}
	e, err := ImportReader(ctx, bytes.NewReader(nil), nil)
	if got, want := e.Ref.Name(), "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"; err != nil || got != want {
		t.Fatal(got, want)
	}
	e, err = EncodeFolder(nil, nil)
	if got, want := e.Ref.Name(), "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"; err != nil || got != want {
		t.Fatal(got, want)
	}
}
