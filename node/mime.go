package node

import (
	"context"
	"net/http"

	"wanderfs/cache/chunk"
)

// sniffed is how many bytes the media type is told from.
const sniffed = 512 // net/http.DetectContentType looks at no more

// local is a chunk.Getter that asks nobody else.
type local struct{ localStore }

// Get implements chunk.Getter.
func (l local) Get(_ context.Context, r chunk.Ref) ([]byte, error) { return l.localStore.Get(r) }

// ReadRange implements chunk.RangeGetter.
func (l local) ReadRange(_ context.Context, r chunk.Ref, p []byte, off int64) (int, error) {
	return l.localStore.ReadRange(r, p, off)
}

// Mime returns the media type of a file, told from its first bytes, or "" if
// they are not here. It asks nobody.
func (n *Node) Mime(r chunk.Ref) string {
	ctx := context.Background()
	f, err := chunk.OpenFile(ctx, local{localStore{n.cache, n.share}}, r)
	if err != nil {
		return ""
	}
	p := make([]byte, min(sniffed, f.Size()))
	if m, _ := f.ReadAt(ctx, p, 0); m < len(p) {
		return ""
	}
	return http.DetectContentType(p)
}
