package chunk

// Sink takes what an importer makes. Its methods are called by one goroutine
// at a time; an error of theirs ends the import and is returned by it.
type Sink interface {
	// Node takes a dag-pb block, children before parents. The block may be kept.
	Node(r Ref, block []byte) error
	// Leaf says that the n bytes at off of the source are the leaf r. Leaves
	// come in the order of their offsets.
	Leaf(r Ref, off, n int64) error
}

// shape says how content is split. Only the tests use another one than profile.
type shape struct {
	size   int64 // bytes of a leaf
	links  int   // links of a file's node
	fanout int   // of a shard
	plain  int   // longest plain folder's block, in bytes
}

// profile is unixfs-v1-2025 (IPIP-499).
var profile = shape{size: Size, links: 1024, fanout: 256, plain: 256 << 10}

// part is a finished piece of a file.
type part struct {
	ref   Ref
	size  int64 // of content
	total int64 // of all blocks
}

// builder makes a balanced tree of leaves that come in order: groups of links
// leaves, groups of links groups, until one is left. A lone last child gets
// parents of its own.
type builder struct {
	shape  shape
	sink   Sink
	levels []level
	off    int64
}

type level struct {
	open  []part // not yet under a parent
	count int64  // of all that ever were on this level
}

// leaf adds the leaf ref of n bytes.
func (b *builder) leaf(ref Ref, n int64) error {
	if b.sink != nil {
		if err := b.sink.Leaf(ref, b.off, n); err != nil {
			return err
		}
	}
	b.off += n
	return b.add(0, part{ref, n, n})
}

func (b *builder) add(at int, p part) error {
	if at == len(b.levels) {
		b.levels = append(b.levels, level{})
	}
	l := &b.levels[at]
	l.open = append(l.open, p)
	l.count++
	if len(l.open) == b.shape.links {
		return b.flush(at)
	}
	return nil
}

// flush puts the open parts of a level under a parent.
func (b *builder) flush(at int) error {
	l := &b.levels[at]
	links := make([]link, len(l.open))
	sizes := make([]int64, len(l.open))
	var p part
	for i, c := range l.open {
		links[i] = link{ref: c.ref, size: uint64(c.total)}
		sizes[i] = c.size
		p.size += c.size
		p.total += c.total
	}
	l.open = l.open[:0]
	var err error
	var own int64
	if p.ref, own, err = emit(b.sink, links, fileData(sizes)); err != nil {
		return err
	}
	p.total += own
	return b.add(at+1, p)
}

// finish returns the root. At least one leaf has been added.
func (b *builder) finish() (Entry, error) {
	for at := 0; ; at++ {
		l := &b.levels[at]
		if l.count == 1 && len(l.open) == 1 {
			root := l.open[0]
			return Entry{Ref: root.ref, Kind: File, Size: root.size, Total: root.total}, nil
		}
		if len(l.open) > 0 {
			if err := b.flush(at); err != nil {
				return Entry{}, err
			}
		}
	}
}

// emit encodes a node, hands it to s and returns its Ref and its length.
func emit(s Sink, links []link, data []byte) (Ref, int64, error) {
	n := 4 + len(data)
	for _, l := range links {
		n += linkLen(l)
	}
	block := appendNode(make([]byte, 0, n), links, data)
	r := PB(block)
	if s != nil {
		if err := s.Node(r, block); err != nil {
			return Ref{}, 0, err
		}
	}
	return r, int64(len(block)), nil
}
