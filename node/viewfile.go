package node

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"

	"wanderfs/relay/wire"
)

const viewFile = "view"

// A view on disk: version, length and body, then SHA-256 over all before it. An
// entry of the body is a flag byte (1 = met) and a descriptor. Vouchers are not
// kept: who was not met must be vouched for anew after a restart.
const viewVersion = 1

// save writes the confirmed relays to name when something changed.
func (v *view) save(name string) error {
	v.mu.Lock()
	if !v.dirty {
		v.mu.Unlock()
		return nil
	}
	v.dirty = false
	b := []byte{viewVersion, 0, 0, 0, 0}
	for _, k := range v.relays {
		if k.met {
			b = append(b, 1)
			b, _ = k.desc.AppendBinary(b)
		}
	}
	v.mu.Unlock()
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-5))
	sum := sha256.Sum256(b)
	return writeFile(name, append(b, sum[:]...))
}

// load reads what save wrote. A missing or damaged file is an empty view; each
// descriptor is verified anew.
func (v *view) load(name string) error {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range parseView(b) {
		v.add(d, d.Node)
	}
	return nil
}

func parseView(b []byte) []wire.Descriptor {
	const entry = 1 + wire.DescriptorSize
	if len(b) < 5+sha256.Size || b[0] != viewVersion || len(b) > 5+maxView*entry+sha256.Size {
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
