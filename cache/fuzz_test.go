package cache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"wanderfs/cache/chunk"
)

// fuzzKeys are fixed, so that a corpus keeps its meaning.
func fuzzKeys(t testing.TB) *keys {
	k, err := newKeys(bytes.Repeat([]byte{7}, keySize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// FuzzChunkFile: whatever lies in a chunk's file, a reader gets the chunk or a
// miss.
func FuzzChunkFile(f *testing.F) {
	r, data := block(1, 300)
	dir := f.TempDir()
	c := open1(f, Config{Dir: dir})
	if err := c.Put(r, data); err != nil {
		f.Fatal(err)
	}
	path := chunkFiles(f, dir)[0]
	right, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(right)
	f.Add(right[:299])
	f.Add([]byte{})
	f.Add(make([]byte, 300))
	f.Add(data)
	f.Fuzz(func(t *testing.T, body []byte) {
		if err := c.Put(r, data); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 10)
		n, err := c.ReadRange(r, p, 290)
		switch same := bytes.Equal(body, right); {
		case err == nil && !bytes.Equal(p[:n], data[290:]):
			t.Error("ReadRange: wrong bytes")
		case same && err != nil, !same && !errors.Is(err, ErrMiss):
			t.Errorf("ReadRange: right file %v, got %v", same, err)
		}
		if got, err := c.Get(r); err == nil && !bytes.Equal(got, data) {
			t.Error("Get: wrong bytes")
		}
	})
}

func FuzzOpenFile(f *testing.F) {
	k := fuzzKeys(f)
	f.Add(k.sealFile("x", []byte("what was sealed")))
	f.Add(k.sealFile("x", nil))
	f.Add([]byte{})
	f.Add([]byte{sealVersion})
	f.Fuzz(func(t *testing.T, raw []byte) {
		data, err := k.openFile("x", raw)
		if err != nil {
			if !errors.Is(err, ErrDamaged) || data != nil {
				t.Errorf("got %d bytes, %v, want ErrDamaged", len(data), err)
			}
			return
		}
		if again, err := k.openFile("x", k.sealFile("x", data)); err != nil || !bytes.Equal(again, data) {
			t.Errorf("sealed again: %v", err)
		}
	})
}

// FuzzParsePin feeds the parser what an honest key would have sealed.
func FuzzParsePin(f *testing.F) {
	k := fuzzKeys(f)
	r, data := block(1, 10)
	for _, r := range []chunk.Ref{r, chunk.PB(data)} {
		for _, op := range []pinOp{opPin, opUnpin} {
			p, err := k.small.Open(nil, nil, k.sealPin(op, r), pinLabel)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(p)
		}
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		op, r, ok := parsePin(plain)
		if !ok {
			return
		}
		again, err := k.small.Open(nil, nil, k.sealPin(op, r), pinLabel)
		if err != nil || !bytes.Equal(again, plain) {
			t.Errorf("got %x, %v, want %x", again, err, plain)
		}
	})
}

// FuzzPinLog opens a cache on any pin log.
func FuzzPinLog(f *testing.F) {
	dir := f.TempDir()
	c := open1(f, Config{Dir: dir})
	r, _ := block(1, 10)
	c.Pin(r)
	_ = c.Close()
	right, err := os.ReadFile(c.pinPath())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(right)
	f.Add(right[:63])
	f.Add(append(bytes.Clone(right), 1, 2, 3))
	f.Fuzz(func(t *testing.T, log []byte) {
		if err := os.WriteFile(filepath.Join(dir, "pins"), log, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if len(c.Pins()) > len(log)/pinSize {
			t.Errorf("got %d pins of %d bytes", len(c.Pins()), len(log))
		}
	})
}

func FuzzParseName(f *testing.F) {
	f.Add("ab0123456789abcdef0123456789abcd", byte(0xab))
	f.Add("AB0123456789abcdef0123456789abcd", byte(0xab))
	f.Add("../x", byte(0))
	f.Fuzz(func(t *testing.T, s string, dir byte) {
		if n, ok := parseName(s, dir); ok && (n.String() != s || n[0] != dir) {
			t.Errorf("got %v of %q", n, s)
		}
	})
}
