package chunk

// Links returns the children that the block of r links to: the parts of a
// file, the entries and shards of a folder; none for a leaf or a symlink.
// Those of a kind that cannot be verified here are left out. An invalid block
// gives ErrHostile.
func Links(r Ref, block []byte) ([]Ref, error) {
	if r.IsRaw() {
		return nil, nil
	}
	n, _, err := decode(block)
	if err != nil {
		return nil, err
	}
	refs := make([]Ref, 0, len(n.links))
	for _, l := range n.links {
		if !l.ref.IsZero() {
			refs = append(refs, l.ref)
		}
	}
	return refs, nil
}
