package wire

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// key makes a signing key from one byte.
func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

var epoch = time.Unix(1_800_000_000, 0)

func fill(b byte) (out [32]byte) {
	copy(out[:], bytes.Repeat([]byte{b}, 32))
	return out
}

// hybrid makes a hybrid key from one byte.
func hybrid(seed byte) *PrivateKey {
	k, err := ParsePrivateKey(bytes.Repeat([]byte{seed}, SeedSize))
	if err != nil {
		panic(err)
	}
	return k
}

func testDescriptor(seed byte) Descriptor {
	d := Descriptor{
		Onion: hybrid(seed).Public(), Flags: FlagSuper, Issued: epoch, Expires: epoch.Add(OnionLife),
		Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.1.2.3:4001"), netip.MustParseAddrPort("[2001:db8::1]:443")},
	}
	if err := d.Sign(key(seed), "test"); err != nil {
		panic(err)
	}
	return d
}

func testSource() Source {
	var k SessionKeys
	copy(k.Sign[:], key(9).Public().(ed25519.PublicKey))
	k.Key = *hybrid(3).Public()
	s := Source{Keys: k, Join: fill(4), Expires: epoch.Add(time.Hour), Gateways: []Descriptor{testDescriptor(1), testDescriptor(2)}}
	s.Sign(key(9), "test")
	return s
}

func TestDescriptor(t *testing.T) {
	d := testDescriptor(1)
	b, err := d.AppendBinary(nil)
	if err != nil || len(b) != DescriptorSize {
		t.Fatalf("got %d bytes and %v, want %d", len(b), err, DescriptorSize)
	}
	got, err := ParseDescriptor(b)
	if err != nil || !reflect.DeepEqual(got, d) {
		t.Fatalf("parsed another descriptor, %v", err)
	}
	now := epoch.Add(time.Hour)
	if err := got.Verify("test", now); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another network": got.Verify("main", now),
		"too late":        got.Verify("test", epoch.Add(OnionLife)),
		"too early":       got.Verify("test", epoch.Add(-time.Hour)),
	} {
		if err == nil {
			t.Errorf("%s: verified", name)
		}
	}
	for i := range b[:DescriptorSize] {
		c := bytes.Clone(b)
		c[i] ^= 1
		if d, err := ParseDescriptor(c); err == nil && d.Verify("test", now) == nil {
			t.Errorf("byte %d changed: verified", i)
		}
	}
	for bit := 1; bit < 8; bit++ { // an unknown flag needs another version, whoever signs it
		odd := bytes.Clone(b)
		odd[1] |= 1 << bit
		if _, err := ParseDescriptor(odd); !errors.Is(err, ErrMalformed) {
			t.Errorf("flag bit %d: got %v, want %v", bit, err, ErrMalformed)
		}
		if err := (&Descriptor{Onion: d.Onion, Flags: 1 << bit}).Sign(key(1), "test"); err == nil {
			t.Errorf("flag bit %d: signed", bit)
		}
	}
	long := d
	long.Addrs = make([]netip.AddrPort, MaxAddrs+1)
	if _, err := long.AppendBinary(nil); err == nil {
		t.Error("too many addresses were encoded")
	}
	if err := long.Sign(key(1), "test"); err == nil {
		t.Error("too many addresses were signed")
	}
	ages := d
	ages.Expires = ages.Issued.Add(MaxDescriptorLife + time.Second)
	ages.Sign(key(1), "test")
	if err := ages.Verify("test", now); !errors.Is(err, ErrExpired) {
		t.Errorf("too long a life: got %v", err)
	}
}

func TestSource(t *testing.T) {
	s := testSource()
	b, err := s.AppendBinary(nil)
	if err != nil || len(b) != SourceSize {
		t.Fatalf("got %d bytes and %v, want %d", len(b), err, SourceSize)
	}
	got, err := ParseSource(b)
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Fatalf("parsed another source, %v", err)
	}
	if err := got.Verify("test", epoch); err != nil {
		t.Error(err)
	}
	if err := got.Verify("test", epoch.Add(time.Hour)); !errors.Is(err, ErrExpired) {
		t.Errorf("expired: got %v", err)
	}
	for i := 0; i < len(b); i += 3 {
		c := bytes.Clone(b)
		c[i] ^= 1
		if s, err := ParseSource(c); err == nil && s.Verify("test", epoch) == nil {
			t.Errorf("byte %d changed: verified", i)
		}
	}
	s.Gateways = append(s.Gateways, s.Gateways...)
	if _, err := s.AppendBinary(nil); err == nil {
		t.Error("too many gateways were encoded")
	}
}

// TestHidden: what names somebody does not print.
func TestHidden(t *testing.T) {
	s := testSource()
	for _, v := range []any{NodeID(fill(7)), SessionNumber(fill(7)), testDescriptor(1), s, *hybrid(1).Public(), hybrid(1)} {
		for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
			if got := fmt.Sprintf(f, v); !strings.HasPrefix(got, "[") || len(got) > 12 {
				t.Errorf("%T prints as %.40s", v, got)
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for name, c := range map[string][2]int{
		"frame":       {FrameSize, 16368},
		"body":        {BodySize, 16352},
		"tail":        {TailSize, 80},
		"cell":        {CellSize, 16272},
		"data":        {MaxData, 16264},
		"record":      {RecordSize, 16248},
		"key":         {PublicKeySize, 1216},
		"enc":         {EncSize, 1120},
		"dial":        {DialSize, 220},
		"descriptor":  {DescriptorSize, 1436},
		"source":      {SourceSize, 5662},
		"listen":      {ListenSize, 1345},
		"hello":       {HelloSize, 2352},
		"welcome":     {WelcomeSize, 1136},
		"first":       {MaxFirst, 13848},
		"set-up head": {setupHead, 2589},
		"set-up rest": {setupRest, 13778},
		"answer":      {answerSize, 1137},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: got %d bytes, want %d as in SPEC.md", name, c[0], c[1])
		}
	}
}

func cell(h Header, data []byte) []byte {
	b := make([]byte, CellSize)
	h.Len = len(data)
	h.Put(b)
	copy(b[HeaderSize:], data)
	return b
}

func TestCell(t *testing.T) {
	good := cell(Header{Cmd: CmdData, Stream: 7}, []byte("hello"))
	h, data, err := ParseCell(good)
	if err != nil || h != (Header{CmdData, 5, 7}) || string(data) != "hello" {
		t.Fatalf("got %v, %q and %v", h, data, err)
	}
	if cap(data) != len(data) {
		t.Error("data can be appended to")
	}
	for name, change := range map[string]func([]byte) []byte{
		"short":       func(b []byte) []byte { return b[1:] },
		"long":        func(b []byte) []byte { return append(b, 0) },
		"version":     func(b []byte) []byte { b[0]++; return b },
		"command 0":   func(b []byte) []byte { b[1] = 0; return b },
		"command 2":   func(b []byte) []byte { b[1] = 2; return b },
		"command 19":  func(b []byte) []byte { b[1] = 19; return b },
		"length":      func(b []byte) []byte { b[2] = 0xff; return b },
		"first pad":   func(b []byte) []byte { b[HeaderSize+5] = 1; return b },
		"last pad":    func(b []byte) []byte { b[CellSize-1] = 1; return b },
		"shorter len": func(b []byte) []byte { b[3]--; return b },
	} {
		if _, _, err := ParseCell(change(bytes.Clone(good))); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestListen(t *testing.T) {
	k := testSource().Keys
	l := Listen{Keys: k, Verifier: Verifier(fill(4), NodeID(fill(5)))}
	l.Sign(key(9), "test", NodeID(fill(5)), fill(6))
	b, _ := l.AppendBinary(nil)
	got, err := ParseListen(b)
	if err != nil || got != l {
		t.Fatalf("parsed another Listen, %v", err)
	}
	if err := got.Verify("test", NodeID(fill(5)), fill(6)); err != nil {
		t.Error(err)
	}
	other := got
	other.Verifier[0] ^= 1
	rekeyed := got
	rekeyed.Keys.Key[0] ^= 1
	for name, err := range map[string]error{
		"network": got.Verify("main", NodeID(fill(5)), fill(6)),
		"gateway": got.Verify("test", NodeID(fill(6)), fill(6)),
		"circuit": got.Verify("test", NodeID(fill(5)), fill(7)),
		"secret":  other.Verify("test", NodeID(fill(5)), fill(6)),
		"key":     rekeyed.Verify("test", NodeID(fill(5)), fill(6)),
	} {
		if !errors.Is(err, ErrBadSignature) {
			t.Errorf("another %s: got %v", name, err)
		}
	}
}
