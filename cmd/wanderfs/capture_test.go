package main

import (
	"bufio"
	stdbytes "bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// capture is what tcpdump saw at the hub.
type capture struct {
	f   *os.File
	r   *bufio.Reader
	ord binary.ByteOrder
}

// packet is one IPv4 packet; its fields are valid until the next one.
type packet struct {
	src, dst netip.Addr
	body     []byte // everything after the Ethernet header, as captured
}

func openCapture(name string) (*capture, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	c := &capture{f: f, r: bufio.NewReaderSize(f, 1<<20), ord: binary.LittleEndian}
	var head [24]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return nil, errors.Join(fmt.Errorf("read the capture's head: %w", err), f.Close())
	}
	if m := c.ord.Uint32(head[:]); m != 0xa1b2c3d4 && m != 0xa1b23c4d {
		return nil, errors.Join(errors.New("not a capture of this machine's byte order"), f.Close())
	}
	return c, nil
}

func (c *capture) Close() error { return c.f.Close() }

// each calls fn for every IPv4 packet, and returns how many there were.
func (c *capture) each(fn func(packet)) (int, error) {
	n := 0
	buf := make([]byte, 1<<18)
	for {
		var head [16]byte
		if _, err := io.ReadFull(c.r, head[:]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return n, nil // the last record may be cut
			}
			return n, err
		}
		size := int(c.ord.Uint32(head[8:]))
		if size > len(buf) {
			return n, errors.New("a record is longer than a packet")
		}
		if _, err := io.ReadFull(c.r, buf[:size]); err != nil {
			return n, nil //nolint:nilerr // the last record may be cut
		}
		p := buf[:size]
		if len(p) < 14+20 || p[12] != 8 || p[13] != 0 {
			continue
		}
		n++
		fn(packet{netip.AddrFrom4([4]byte(p[26:30])), netip.AddrFrom4([4]byte(p[30:34])), p[14:]})
	}
}

// secret is something that nobody else may see.
type secret struct {
	what   string
	needle []byte
}

// leaks tells which secrets are in b.
func leaks(b []byte, secrets []secret) []string {
	var found []string
	for _, s := range secrets {
		if stdbytes.Contains(b, s.needle) {
			found = append(found, s.what)
		}
	}
	return found
}

// marked is content that a search finds wherever a packet is cut.
func marked(marker string, size int) []byte {
	b := stdbytes.Repeat([]byte(marker), size/len(marker)+1)[:size]
	for i := 0; i+8 <= len(b); i += 4096 { // blocks differ
		binary.BigEndian.PutUint64(b[i:], uint64(i))
	}
	return b
}

// leaksInFiles tells which secrets are in which of the files below dir.
func leaksInFiles(t *testing.T, dir string, secrets []secret) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "drive" {
			return fs.SkipDir // the mount itself
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if what := leaks(b, secrets); len(what) > 0 {
			found[name] = what
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
