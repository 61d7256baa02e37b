package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"wanderfs/node/view"
)

const (
	peersFile = "peers" // one multiaddr with a peer ID a line
	maxBook   = 128     // peers remembered
	maxBookFS = 1 << 20 // bytes of the file that are looked at
)

// peerBook remembers how to get into the network: the peers given by the user,
// and those that answered before. It is safe for concurrent use.
type peerBook struct {
	policy view.Policy

	mu    sync.Mutex
	given []peer.AddrInfo          // guarded by mu
	book  map[peer.ID]ma.Multiaddr // guarded by mu
	dirty bool                     // guarded by mu
}

// newPeerBook reads the file name, if there is one, and the multiaddrs given.
func newPeerBook(p view.Policy, given []string, name string) (*peerBook, error) {
	b := &peerBook{policy: p, book: make(map[peer.ID]ma.Multiaddr)}
	for _, s := range given {
		info, err := peer.AddrInfoFromString(s)
		if err != nil {
			return nil, errors.New("bootstrap: not a multiaddr that ends in /p2p/<peer>")
		}
		if len(info.Addrs) == 0 {
			return nil, errors.New("bootstrap: a multiaddr without an address")
		}
		b.given = append(b.given, *info)
	}
	if name == "" {
		return b, nil
	}
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read remembered peers: %w", err)
	}
	for line := range bytes.Lines(data[:min(len(data), maxBookFS)]) {
		info, err := peer.AddrInfoFromString(strings.TrimSpace(string(line)))
		if err == nil && len(info.Addrs) > 0 && len(b.book) < maxBook {
			b.book[info.ID] = info.Addrs[0]
		}
	}
	// What the user gave is remembered too.
	for _, info := range b.given {
		b.book[info.ID] = info.Addrs[0]
		b.dirty = true
	}
	return b, nil
}

// seen remembers a peer that answered.
func (b *peerBook) seen(p peer.ID, addrs []ma.Multiaddr) {
	addrs = told(b.policy, addrs)
	if len(addrs) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, ok := b.book[p]; ok && old.Equal(addrs[0]) {
		return
	}
	if len(b.book) >= maxBook {
		for victim := range b.book {
			delete(b.book, victim)
			break
		}
	}
	b.book[p] = addrs[0]
	b.dirty = true
}

// some returns the peers given and up to n remembered ones.
func (b *peerBook) some(n int) []peer.AddrInfo {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []peer.AddrInfo
	for p, a := range b.book {
		out = append(out, peer.AddrInfo{ID: p, Addrs: []ma.Multiaddr{a}})
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return append(out[:min(n, len(out))], b.given...)
}

// empty reports whether the node knows nobody at all.
func (b *peerBook) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.given) == 0 && len(b.book) == 0
}

func (b *peerBook) save(name string) error {
	b.mu.Lock()
	if !b.dirty {
		b.mu.Unlock()
		return nil
	}
	b.dirty = false
	var out bytes.Buffer
	for p, a := range b.book {
		fmt.Fprintf(&out, "%s/p2p/%s\n", a, p)
	}
	b.mu.Unlock()
	if err := writeFile(name, out.Bytes()); err != nil {
		return fmt.Errorf("save peers: %w", err)
	}
	return nil
}
