package view

import (
	"crypto/sha256"
	"encoding/binary"

	"wanderfs/relay/wire"
)

// A view on disk: version, length and body, then SHA-256 over all before it. An
// entry of the body is a flag byte (1 = met) and a descriptor. Vouchers are not
// kept: who was not met must be vouched for anew after a restart.
const fileVersion = 1

// Bytes gives the relays that were met, for Load; nil when nothing has changed
// since it was called last.
func (v *View) Bytes() []byte {
	v.mu.Lock()
	if !v.dirty {
		v.mu.Unlock()
		return nil
	}
	v.dirty = false
	b := []byte{fileVersion, 0, 0, 0, 0}
	for _, k := range v.relays {
		if k.met {
			b = append(b, 1)
			b, _ = k.desc.AppendBinary(b)
		}
	}
	v.mu.Unlock()
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-5))
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// Load adds what Bytes gave. Damaged bytes hold nothing; each descriptor is
// verified anew.
func (v *View) Load(b []byte) {
	for _, d := range parse(b) {
		v.Add(d, d.Node)
	}
}

func parse(b []byte) []wire.Descriptor {
	const entry = 1 + wire.DescriptorSize
	if len(b) < 5+sha256.Size || b[0] != fileVersion || len(b) > 5+maxView*entry+sha256.Size {
		return nil
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if sha256.Sum256(body) != [32]byte(sum) || int(binary.BigEndian.Uint32(b[1:])) != len(body)-5 || (len(body)-5)%entry != 0 {
		return nil
	}
	var out []wire.Descriptor
	for body = body[5:]; len(body) > 0; body = body[entry:] {
		if d, err := wire.ParseDescriptor(body[1:entry]); err == nil && body[0] == 1 {
			out = append(out, d)
		}
	}
	return out
}
