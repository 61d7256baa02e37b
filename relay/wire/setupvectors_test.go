package wire

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
	"time"
)

// setupVectors is testdata/setup.json. SPEC.md §11
type setupVectors struct {
	Network string        `json:"network"`
	Packet  string        `json:"packet"` // SETUP as hop 0 gets it
	Hops    []setupVector `json:"hops"`
	Reply   string        `json:"reply"`                     // REPLY as the builder gets it
	Failed  string        `json:"reply_hop_3_tried_in_vain"` // REPLY if hop 2 had not reached hop 3
	Greet   greetVector   `json:"end_to_end"`
}

// setupVector is one hop. What is named _sha256 is that of a whole frame.
type setupVector struct {
	NodeSeed    string `json:"node_ed25519_seed"`
	Node        string `json:"node_id"`
	OnionSeed   string `json:"onion_hybrid_seed"`
	ClientSeed  string `json:"client_hybrid_seed"` // of E
	Packet      string `json:"packet_sha256"`
	Block       string `json:"block"`
	Blind       string `json:"export_blind,omitempty"`
	AnswerBlind string `json:"export_answer_blind"`
	Static      string `json:"export_secret_c1"`
	Fresh       string `json:"export_secret_c2"`
	Answer      string `json:"enc2"`
	Status      int    `json:"status"`
	Hash        string `json:"transcript_hash"`
	Forward     string `json:"forward_secret"`
	Backward    string `json:"backward_secret"`
	Tag         string `json:"tag_key"`
	Reply       string `json:"reply_sha256"`
}

type greetVector struct {
	SignSeed    string `json:"session_ed25519_seed"`
	SessionSeed string `json:"session_hybrid_seed"`
	Number      string `json:"session_number"`
	ReaderSeed  string `json:"reader_hybrid_seed"` // of E
	First       string `json:"first_bytes"`
	Message1    string `json:"message_1"`
	Message2    string `json:"message_2"`
	Hash        string `json:"transcript_hash"`
	ToSession   string `json:"to_session_secret"`
	ToReader    string `json:"to_reader_secret"`
}

func sum(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }

func seedOf(t *testing.T, k *PrivateKey) string {
	b, err := k.k.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// makeSetup runs a set-up of three hops and a greeting, with fresh randomness.
func makeSetup(t *testing.T) setupVectors {
	v := setupVectors{Network: "test"}
	var ds []Descriptor
	var keys []*PrivateKey
	for i := range 3 {
		d := testDescriptor(byte(i + 1))
		ds, keys = append(ds, d), append(keys, hybrid(byte(i+1)))
	}
	p, b, err := NewSetup("test", ds)
	if err != nil {
		t.Fatal(err)
	}
	v.Packet = hex.EncodeToString(p)
	var opened []*Setup
	for i := range ds {
		s, err := OpenSetup("test", ds[i].Node, keys[i], p)
		if err != nil {
			t.Fatal(err)
		}
		v.Hops = append(v.Hops, setupVector{
			NodeSeed: hex.EncodeToString(key(byte(i + 1)).Seed()), OnionSeed: seedOf(t, keys[i]), ClientSeed: seedOf(t, b.hops[i].own), Packet: sum(p),
			Answer: hex.EncodeToString(s.answer[:]),
		})
		opened, p = append(opened, s), s.Packet
	}
	var reply []byte
	for i := 2; i >= 0; i-- {
		if reply, err = opened[i].Reply(StatusOK, reply); err != nil {
			t.Fatal(err)
		}
		v.Hops[i].Reply = sum(reply)
	}
	v.Reply = hex.EncodeToString(reply)

	s := testSource()
	g, msg, err := NewGreeting("test", &s.Keys, []byte("first bytes"))
	if err != nil {
		t.Fatal(err)
	}
	out, _, _, err := OpenGreeting("test", s.Keys.Number(), hybrid(3), msg)
	if err != nil {
		t.Fatal(err)
	}
	v.Greet = greetVector{
		SignSeed: hex.EncodeToString(key(9).Seed()), SessionSeed: seedOf(t, hybrid(3)), ReaderSeed: seedOf(t, g.i.own),
		Message1: hex.EncodeToString(msg), Message2: hex.EncodeToString(out[:]),
	}
	return v
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// handshake computes from both private keys what either end computes.
func handshake(t *testing.T, info []byte, static, own *PrivateKey, enc, answer []byte) (c1, c2 *hpke.Recipient, s secret) {
	t.Helper()
	c1, err := hpke.NewRecipient(enc, static.k, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
	if err != nil {
		t.Fatal(err)
	}
	c2, err = hpke.NewRecipient(answer, own.k, hpke.HKDFSHA256(), hpke.AES256GCM(), info)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = mix(info, enc, own.pub[:], answer, c2, c1); err != nil {
		t.Fatal(err)
	}
	return c1, c2, s
}

func hexExport(t *testing.T, c exporter, label string) string {
	t.Helper()
	k, err := export(c, label)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(k[:])
}

// follow fills in what is computed from the packet, the reply and the keys.
func follow(t *testing.T, v setupVectors) setupVectors {
	v.Hops = append([]setupVector(nil), v.Hops...)
	p, body := unhex(t, v.Packet), unhex(t, v.Reply)
	reply := body
	for i := range v.Hops {
		h := &v.Hops[i]
		h.Packet, h.Reply = sum(p), sum(reply)
		node := NodeID(ed25519.NewKeyFromSeed(unhex(t, h.NodeSeed)).Public().(ed25519.PublicKey))
		h.Node = hex.EncodeToString(node[:])
		onion, err := ParsePrivateKey(unhex(t, h.OnionSeed))
		if err != nil {
			t.Fatal(err)
		}
		own, err := ParsePrivateKey(unhex(t, h.ClientSeed))
		if err != nil {
			t.Fatal(err)
		}
		setup, err := OpenSetup(v.Network, node, onion, p)
		if err != nil {
			t.Fatalf("hop %d: %v", i, err)
		}
		body := bytes.Clone(reply[1:])
		blind(&setup.back, body)
		h.Answer = hex.EncodeToString(body[:EncSize])
		c1, c2, s := handshake(t, circuitInfo(v.Network, node), onion, own, p[offEnc:offBox], body[:EncSize])
		h.AnswerBlind = hex.EncodeToString(setup.back[:])
		h.Static, h.Fresh, h.Hash = hexExport(t, c1, "wanderfs/secret/1"), hexExport(t, c2, "wanderfs/secret/1"), hex.EncodeToString(s.hash[:])
		if !setup.Last {
			h.Blind = hexExport(t, c1, "wanderfs/blind/1")
		}
		block, err := c1.Open(setupAAD(p), p[offBox:offRest])
		if err != nil {
			t.Fatal(err)
		}
		h.Block = hex.EncodeToString(block)
		k, tag := circuitKeys(&s)
		h.Forward, h.Backward, h.Tag = hex.EncodeToString(k.Forward[:]), hex.EncodeToString(k.Backward[:]), hex.EncodeToString(tag[:])
		status, err := confirm(&tag).Open(nil, make([]byte, 12), body[EncSize:answerSize], nil)
		if err != nil {
			t.Fatalf("hop %d: the answer does not open", i)
		}
		h.Status = int(status[0])
		p = setup.Packet
		if i+1 < len(v.Hops) {
			reply = restore(t, v, i+1, append([]byte{Version}, body[answerSize:]...))
		}
	}
	v.Failed = failed(t, v)

	g := &v.Greet
	keys := SessionKeys{}
	copy(keys.Sign[:], ed25519.NewKeyFromSeed(unhex(t, g.SignSeed)).Public().(ed25519.PublicKey))
	session, err := ParsePrivateKey(unhex(t, g.SessionSeed))
	if err != nil {
		t.Fatal(err)
	}
	own, err := ParsePrivateKey(unhex(t, g.ReaderSeed))
	if err != nil {
		t.Fatal(err)
	}
	keys.Key = *session.Public()
	n := keys.Number()
	m1, m2 := unhex(t, g.Message1), unhex(t, g.Message2)
	_, first, _, err := OpenGreeting(v.Network, n, session, m1)
	if err != nil {
		t.Fatal(err)
	}
	_, _, s := handshake(t, streamInfo(v.Network, n), session, own, m1[:EncSize], m2[:EncSize])
	g.Number, g.First, g.Hash = hex.EncodeToString(n[:]), hex.EncodeToString(first), hex.EncodeToString(s.hash[:])
	k, tag := streamKeys(&s)
	g.ToSession, g.ToReader = hex.EncodeToString(k.ToSession[:]), hex.EncodeToString(k.ToReader[:])
	if _, err := confirm(&tag).Open(nil, make([]byte, 12), m2[EncSize:], nil); err != nil {
		t.Fatal("message 2 does not open")
	}
	return v
}

// failed gives the reply if hop 1, counted from 0, says that it tried the next
// in vain.
func failed(t *testing.T, v setupVectors) string {
	t.Helper()
	next := make([]byte, FrameSize-1)
	for _, x := range []struct {
		hop    int
		status Status
	}{{1, StatusFailed}, {0, StatusOK}} {
		h := v.Hops[x.hop]
		tag, back := [32]byte(unhex(t, h.Tag)), [32]byte(unhex(t, h.AnswerBlind))
		body := confirm(&tag).Seal(unhex(t, h.Answer), make([]byte, 12), []byte{byte(x.status)}, nil)
		body = append(body, next...)[:FrameSize-1]
		blind(&back, body)
		next = body
	}
	return hex.EncodeToString(append([]byte{Version}, next...))
}

// restore gives the frame of hop i as it was before its end was dropped: the
// keystreams of this hop and those behind it, over zeros.
func restore(t *testing.T, v setupVectors, i int, reply []byte) []byte {
	t.Helper()
	end := make([]byte, answerSize)
	for j := i; j < len(v.Hops); j++ {
		stream := make([]byte, FrameSize-1)
		k := [32]byte(unhex(t, backOf(t, v, j)))
		blind(&k, stream)
		at := len(stream) - answerSize*(j-i+1)
		for x := range end {
			end[x] ^= stream[at+x]
		}
	}
	return append(reply, end...)
}

// backOf gives the key that blinds hop j's reply, from its onion key.
func backOf(t *testing.T, v setupVectors, j int) string {
	t.Helper()
	p := unhex(t, v.Packet)
	for i := 0; ; i++ {
		h := v.Hops[i]
		node := NodeID(ed25519.NewKeyFromSeed(unhex(t, h.NodeSeed)).Public().(ed25519.PublicKey))
		onion, err := ParsePrivateKey(unhex(t, h.OnionSeed))
		if err != nil {
			t.Fatal(err)
		}
		s, err := OpenSetup(v.Network, node, onion, p)
		if err != nil {
			t.Fatal(err)
		}
		if i == j {
			return hex.EncodeToString(s.back[:])
		}
		p = s.Packet
	}
}

// TestSetupVectors opens the packet and the reply of the vectors with the
// keys in them, and compares all that follows.
func TestSetupVectors(t *testing.T) {
	const name = "testdata/setup.json"
	if *update {
		b, err := json.MarshalIndent(follow(t, makeSetup(t)), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var v setupVectors
	if err := json.Unmarshal(want, &v); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(follow(t, v), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(append(got, '\n'), want) {
		t.Errorf("the bytes have changed: a change of %s is a change of the protocol", name)
	}
	// What the vectors say of frames in between is what relays do.
	made := makeSetup(t)
	for i, h := range follow(t, made).Hops {
		if m := made.Hops[i]; h.Packet != m.Packet || h.Reply != m.Reply || h.Answer != m.Answer {
			t.Errorf("hop %d: other frames than the relay's", i)
		}
	}
	if d := testDescriptor(1); d.Verify("test", epoch.Add(time.Minute)) != nil {
		t.Error("the vectors' relays are not valid")
	}
}
