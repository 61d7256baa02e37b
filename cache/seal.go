package cache

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
)

// MaxSealed is the longest data, in bytes, that Seal takes.
const MaxSealed = 16 << 20

// ErrDamaged says that a sealed file is not what was sealed under this name.
// What it held is lost; sealing anew repairs it.
var ErrDamaged = errors.New("sealed file is damaged")

// A sealed file is a version byte, a nonce of 12 bytes, and the data under
// AES-256-GCM with the name as associated data.
const sealVersion = 1

func sealLabel(name string) []byte { return []byte("wanderfs cache file v1 " + name) }

// Seal stores a small file under the cache's key, replacing the one of that
// name: after a crash there is the old or the new one. It is on disk when Seal
// returns, and counts towards no limit. The name is readable on disk: it is a
// constant of the program (lower-case letters, digits and '-'), never anything
// about the user. One call for a name at a time; others may run beside it.
func (c *Cache) Seal(name string, data []byte) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	path, err := c.sealPath(name)
	if err != nil {
		return err
	}
	if len(data) > MaxSealed {
		return fmt.Errorf("seal %s: more than %d bytes", name, MaxSealed)
	}
	if err := writeWhole(path, c.keys.sealFile(name, data)); err != nil {
		return fmt.Errorf("seal %s: %w", name, err)
	}
	return nil
}

// Unseal returns what was last sealed under name. ErrMiss says that there is
// none, ErrDamaged that it cannot be read any more.
func (c *Cache) Unseal(name string) ([]byte, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	path, err := c.sealPath(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, ErrMiss
	}
	if err != nil {
		return nil, fmt.Errorf("unseal %s: %w", name, bare(err))
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, MaxSealed+64))
	if err != nil {
		return nil, fmt.Errorf("unseal %s: %w", name, bare(err))
	}
	data, err := c.keys.openFile(name, raw)
	if err != nil {
		return nil, fmt.Errorf("unseal %s: %w", name, err)
	}
	return data, nil
}

// Unstore removes the sealed file of that name; none is no error.
func (c *Cache) Unstore(name string) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	path, err := c.sealPath(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, bare(err))
	}
	return nil
}

func (k *keys) sealFile(name string, data []byte) []byte {
	return k.small.Seal([]byte{sealVersion}, nil, data, sealLabel(name))
}

func (k *keys) openFile(name string, raw []byte) ([]byte, error) {
	if len(raw) < 1 || raw[0] != sealVersion {
		return nil, ErrDamaged
	}
	data, err := k.small.Open(nil, nil, raw[1:], sealLabel(name))
	if err != nil {
		return nil, ErrDamaged
	}
	return data, nil
}

func (c *Cache) sealPath(name string) (string, error) {
	ok := len(name) > 0 && len(name) <= 64
	for _, b := range []byte(name) {
		ok = ok && (b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '-')
	}
	if !ok {
		return "", errors.New("sealed file: bad name")
	}
	return filepath.Join(c.dir, "sealed", name), nil
}
