package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write testdata anew")

// vectors is testdata/messages.json: all bytes as hex. SPEC.md §11
type vectors struct {
	Network     string `json:"network"`
	Seed        string `json:"descriptor_ed25519_seed"`
	OnionSeed   string `json:"descriptor_onion_seed"`
	Descriptor  string `json:"descriptor"`
	Dial        string `json:"descriptor_short"`
	HeldSeed    string `json:"held_ed25519_seed"`
	Held        string `json:"held"`
	SessionSeed string `json:"session_ed25519_seed"`
	SessionKey  string `json:"session_hybrid_seed"`
	Number      string `json:"session_number"`
	Join        string `json:"join_secret"`
	Source      string `json:"source"`
	Gateway     string `json:"gateway_node_id"`
	Circuit     string `json:"circuit_hash"`
	Verifier    string `json:"join_verifier"`
	JoinMAC     string `json:"join_mac"`
	Listen      string `json:"listen"`
	Cell        string `json:"cell_data_stream_7_hello"` // without the zeros behind it
	Ask         string `json:"ask_head_1000"`
	Answer      string `json:"answer_head_ok_1000"`
	Window      string `json:"window_256"`
	Epoch       string `json:"epoch_secret"`
	EpochKey    string `json:"epoch_key"`
	EpochFiller string `json:"epoch_filler_key"`
	EpochNext   string `json:"epoch_next_secret"`
	Puzzle      string `json:"puzzle_16_bits"`
	PuzzleBase  string `json:"puzzle_base"`
	Solution    string `json:"solution_first_nonce"`
}

func makeVectors(t *testing.T) vectors {
	x := func(b []byte) string { return hex.EncodeToString(b) }
	x32 := func(b [32]byte) string { return x(b[:]) }
	d, s := testDescriptor(1), testSource()
	db, _ := d.AppendBinary(nil)
	sb, _ := s.AppendBinary(nil)
	held, heldKey := testHeld(t)
	hb, _ := held.AppendBinary(nil)
	circuit := fill(6)
	verifier := Verifier(s.Join, d.Node)
	l := Listen{Keys: s.Keys, Verifier: verifier, Effort: 16}
	l.Sign(key(9), "test", d.Node, circuit)
	lb, _ := l.AppendBinary(nil)
	short, _ := d.AppendDial(nil)
	epochs := DeriveEpoch(fill(7))
	puzzle := Puzzle{Effort: 16, Seed: fill(10)}
	pb, _ := puzzle.AppendBinary(nil)
	base := puzzle.Base(d.Node, circuit, s.Keys.Number())
	solution, _ := Solution{Number: s.Keys.Number(), Effort: 16, Nonce: solve(puzzle, base)}.AppendBinary(nil)
	return vectors{
		Network: "test", Seed: x(key(1).Seed()), OnionSeed: x32(fill(1)), Descriptor: x(db), Dial: x(short),
		HeldSeed: x(heldKey.Seed()), Held: x(hb),
		SessionSeed: x(key(9).Seed()), SessionKey: x32(fill(3)), Number: x32(s.Keys.Number()), Join: x32(s.Join), Source: x(sb),
		Gateway: x32(d.Node), Circuit: x32(circuit), Verifier: x32(verifier), JoinMAC: x32(JoinMAC(verifier, circuit, s.Keys.Number())), Listen: x(lb),
		Cell: x(cell(Header{Cmd: CmdData, Stream: 7}, []byte("hello"))[:HeaderSize+5]),
		Ask:  x(AppendAsk(nil, 1000)), Answer: x(AppendAnswer(nil, StatusOK, 1000)), Window: x(AppendWindow(nil, 256)),
		Epoch: x32(fill(7)), EpochKey: x32(epochs.Key), EpochFiller: x32(epochs.Filler), EpochNext: x32(epochs.Next),
		Puzzle: x(pb), PuzzleBase: x32(base), Solution: x(solution),
	}
}

func TestVectors(t *testing.T) {
	const name = "testdata/messages.json"
	got, err := json.MarshalIndent(makeVectors(t), "", "  ")
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
