package main

import (
	stdbytes "bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The tests here run the others' scenarios with a defence switched off, and
// fail if that goes unnoticed.

// TestDefencesAreFound looks whether the source still holds what the tests
// below switch off, without waiting for them.
func TestDefencesAreFound(t *testing.T) {
	all := []change{lie, noVerification, noSuccessor, oldNumbers, alwaysHeld}
	all = append(all, noEncryption...)
	all = append(all, noRepair...)
	for _, c := range all {
		src, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(c.file)))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(src), c.old); n != 1 {
			t.Errorf("%s holds %d times, want once:\n%s", c.file, n, c.old)
		}
	}
}

// noEncryption takes the ciphers out of links, layers, streams and records.
var noEncryption = []change{
	{"node/host.go", "libp2p.Security(libp2ptls.ID, newSecurity)", "func(c *libp2p.Config) error { _, _ = libp2ptls.ID, newSecurity; return libp2p.NoSecurity(c) }"},
	{"relay/layer.go", "	l.aead.Seal(body[:0], l.nonce[:], body, nil)\n", "	_ = body\n"},
	{"relay/layer.go", "if _, err := l.aead.Open(box[:0], l.nonce[:], box, nil); err != nil {", "if len(box) == 0 {"},
	{"relay/layer.go", "for i := 0; i < len(dst); i += 16 {", "for i := len(dst); i < len(dst); i += 16 {"},
	{"relay/record.go", "return r.aead.Seal(data[:0], r.nonce[:], data, nil), nil", "return append(data, make([]byte, wire.TagSize)...), nil"},
	{"relay/record.go", "b, err := r.aead.Open(data[:0], r.nonce[:], data, nil)", "b, err := data[:len(data)-wire.TagSize], error(nil)"},
	{"node/index/keys.go", "return gcm(key).Seal(dst, nonce[:], plain, ad)", "return append(append(dst, plain...), make([]byte, 16)...)"},
	{"node/index/keys.go", "p, err := gcm(key).Open(nil, sealed[:nonceSize], sealed[nonceSize:], ad)", "p, err := sealed[nonceSize:len(sealed)-16], error(nil)"},
}

func TestWithoutEncryptionTheTracesShow(t *testing.T) {
	w := newWorld(t, 0)
	w.program = build(t, noEncryption...)
	traces := strings.Join(watchTransfer(t, w), "\n")
	for _, want := range []string{
		"the content is readable on a wire", "the name is readable on a wire", "the query is readable on a wire",
		"the CID digest is readable on a wire", "the name is in index.db",
	} {
		if !strings.Contains(traces, want) {
			t.Errorf("not noticed: %s", want)
		}
	}
}

// TestDialableNodesExchangePackets lets both be dialled and relay, so that
// they meet as any two nodes do.
func TestDialableNodesExchangePackets(t *testing.T) {
	w := newWorld(t, 0)
	if traces := strings.Join(watchTransfer(t, w), "\n"); !strings.Contains(traces, "went directly between") {
		t.Error("not noticed: packets between reader and publisher")
	}
}

// noVerification lets a reader take every byte for right.
var noVerification = change{"node/fetch/verify.go", "err := t.f.hash(f.ref, buf.b)", "err := error(nil)"}

func TestWithoutVerificationLiesAreReturned(t *testing.T) {
	w := newWorld(t, 64)
	_, content, got, err := forge(t, w, build(t, noVerification))
	if err != nil {
		t.Fatal(err)
	}
	if stdbytes.Equal(got, content) {
		t.Error("not noticed: forged bytes")
	}
}

// noRepair lets a reader build two paths and no more.
var noRepair = []change{
	{"node/reader.go", "	\"math/rand/v2\"\n", "	\"math/rand/v2\"\n	\"sync/atomic\"\n"},
	{"node/reader.go", "// readConn is a joined stream", "var dials atomic.Int32\n\n// readConn is a joined stream"},
	{"node/reader.go", "	path, own, err := r.f.own.path(", "	if dials.Add(1) > 2 {\n		return nil, fmt.Errorf(\"no more\")\n	}\n	path, own, err := r.f.own.path("},
}

func TestWithoutRepairAReadEnds(t *testing.T) {
	w := newWorld(t, 64)
	if err := longRead(t, w, build(t, noRepair...)); err == nil {
		t.Error("not noticed: paths died and nothing took their place")
	}
}

// noSuccessor lets a publisher tell where its first session is, and no more.
var noSuccessor = change{"node/sharegroup.go", "	src, ok := s.source(g.p.network)\n", "	src, ok := s.source(g.p.network)\n	ok = ok && !g.isTold()\n"}

func TestWithoutSuccessorsAReadStops(t *testing.T) {
	w := newWorld(t, 64)
	r := readWhileRotating(t, w, build(t, noSuccessor), 256<<20)
	if r.err == nil && r.longest <= rotateWait {
		t.Error("not noticed: the sessions ended and nothing succeeded them")
	}
}

// oldNumbers gives every session the same number.
var oldNumbers = change{"relay/session.go", "return s.keys.Number() }", "return wire.SessionNumber{1} }"}

func TestWithoutNewSessionsNumbersStay(t *testing.T) {
	w := newWorld(t, 64)
	w.program = build(t, oldNumbers)
	if before, after, _ := restart(t, w); common(before, after) == 0 {
		t.Error("not noticed: a session number that outlived its process")
	}
}
