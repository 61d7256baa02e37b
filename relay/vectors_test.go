package relay

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"wanderfs/relay/wire"
)

var update = flag.Bool("update", false, "write wire/testdata anew")

// layerVectors is wire/testdata/layers.json: what every relay of a path of
// three puts on its links, as SHA-256 of the frames. SPEC.md §11
type layerVectors struct {
	Hops     []hopVector `json:"hops"`
	Cell     string      `json:"cell"`     // how it is made
	Forward  []string    `json:"forward"`  // SHA-256 of what the builder, hop 1 and hop 2 send, without what is random
	Backward [][]string  `json:"backward"` // for frames 0 and 1: SHA-256 of what hops 3, 2 and 1 send
	Tail     string      `json:"tail"`     // last 32 bytes of frame 0 as hop 3 gets it

	// What follows is in further epochs.
	Turned   []string   `json:"forward_1_turned"`         // as Forward: all hops have turned with this frame
	Counted  []string   `json:"forward_65537_by_count"`   // and again, by count
	Mixed    []string   `json:"backward_2_hop_1_turned"`  // as Backward: hops 2 and 3 have not turned yet
	Followed []string   `json:"backward_3_hops_2_3_turn"` // they turn with this frame
	Records  recVectors `json:"records"`
}

// recVectors are the records of one direction of a stream.
type recVectors struct {
	Secret string `json:"secret"`
	First  string `json:"data_0_record"`
	Next   string `json:"data_1_turned_record"` // the first of the second epoch
	End    string `json:"end_2"`
}

type hopVector struct {
	Forward  string `json:"forward_secret"`
	Backward string `json:"backward_secret"`
}

// makeLayers runs both directions over three relays with fixed keys. The
// builder's spare tail is set to zero here, as it is random otherwise.
func makeLayers(t *testing.T) layerVectors {
	v := layerVectors{Cell: "byte i of the cell of frame n is (i + n) mod 251"}
	out, in := newOutward(), &inward{}
	out.pad = noFill{}
	var fwd, bwd []*layer
	for i := range 3 {
		k := wire.CircuitKeys{}
		for _, p := range []*[32]byte{&k.Forward, &k.Backward} {
			copy(p[:], bytes.Repeat([]byte{byte(16*i + 1)}, 32))
		}
		k.Backward[0] = 0xbb
		v.Hops = append(v.Hops, hopVector{hex.EncodeToString(k.Forward[:]), hex.EncodeToString(k.Backward[:])})
		out.hops = append(out.hops, newLayer(&k.Forward))
		in.hops = append(in.hops, newLayer(&k.Backward))
		fwd = append(fwd, newLayer(&k.Forward))
		bwd = append(bwd, newLayer(&k.Backward))
	}
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	fill := func(c []byte, n int) {
		for i := range c {
			c[i] = byte((i + n) % 251)
		}
	}
	f := newFrame()
	fill(f.cell(out.off()), 0)
	if err := out.seal(f); err != nil {
		t.Fatal(err)
	}
	v.Forward = append(v.Forward, sum(f.b[:wire.FrameSize]))
	for i := range 2 {
		if err := fwd[i].open(f.b[:], 0); err != nil {
			t.Fatal(err)
		}
		fwd[i].filler(f.b[wire.FrameSize:wire.FrameSize+wire.TagSize], 0)
		copy(f.b[:], f.b[wire.TagSize:wire.TagSize+wire.FrameSize])
		v.Forward = append(v.Forward, sum(f.b[:wire.FrameSize]))
	}
	v.Tail = hex.EncodeToString(f.b[wire.FrameSize-32 : wire.FrameSize])
	if err := fwd[2].open(f.b[:], 0); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		var sums []string
		fill(f.cell(wire.TagSize), n)
		clear(f.b[wire.TagSize+wire.CellSize : wire.TagSize+wire.BodySize])
		for i := 2; i >= 0; i-- {
			bwd[i].seal(f.b[:], 0)
			sums = append(sums, sum(f.b[:wire.FrameSize]))
			if i > 0 {
				copy(f.b[wire.TagSize:], bytes.Clone(f.b[:wire.FrameSize]))
			}
		}
		v.Backward = append(v.Backward, sums)
		off, err := in.open(f)
		if err != nil || f.cell(off)[0] != byte(n) {
			t.Fatalf("frame %d does not come home: %v", n, err)
		}
	}

	forward := func(n int) (sums []string) {
		fill(f.cell(out.off()), n)
		if err := out.seal(f); err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum(f.b[:wire.FrameSize]))
		for i, l := range fwd {
			if err := l.open(f.b[:], 0); err != nil {
				t.Fatalf("frame %d at hop %d: %v", n, i, err)
			}
			if i == len(fwd)-1 {
				break
			}
			l.filler(f.b[wire.FrameSize:wire.FrameSize+wire.TagSize], uint64(n))
			copy(f.b[:], f.b[wire.TagSize:wire.TagSize+wire.FrameSize])
			sums = append(sums, sum(f.b[:wire.FrameSize]))
		}
		return sums
	}
	out.turn()
	for _, l := range fwd {
		l.turn()
	}
	v.Turned = forward(1)
	for _, l := range append(out.hops, fwd...) {
		l.n = 1 + turnAfter // the first of the epoch was 1
	}
	v.Counted = forward(1 + turnAfter)

	backward := func(n int) (sums []string) {
		fill(f.cell(wire.TagSize), n)
		clear(f.b[wire.TagSize+wire.CellSize : wire.TagSize+wire.BodySize])
		for i := 2; i >= 0; i-- {
			bwd[i].seal(f.b[:], 0)
			sums = append(sums, sum(f.b[:wire.FrameSize]))
			if i > 0 {
				copy(f.b[wire.TagSize:], bytes.Clone(f.b[:wire.FrameSize]))
			}
		}
		off, err := in.open(f)
		if err != nil || f.cell(off)[0] != byte(n) {
			t.Fatalf("frame %d does not come home: %v", n, err)
		}
		return sums
	}
	in.turn()
	bwd[0].turn()
	v.Mixed = backward(2)
	bwd[1].turn()
	bwd[2].turn()
	v.Followed = backward(3)

	secret := [32]byte(bytes.Repeat([]byte{0x31}, 32))
	tx := newRecord(&secret, time.Hour)
	record := func(kind byte, text string) string {
		b, err := tx.seal(kind, append(make([]byte, 0, 64), text...))
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(b)
	}
	v.Records.Secret, v.Records.First = hex.EncodeToString(secret[:]), record(kindData, "record")
	tx.turn()
	v.Records.Next, v.Records.End = record(kindData, "turned"), record(kindEnd, "")
	return v
}

func TestLayerVectors(t *testing.T) {
	const name = "wire/testdata/layers.json"
	got, err := json.MarshalIndent(makeLayers(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the bytes have changed: a change of %s is a change of the protocol", name)
	}
}
