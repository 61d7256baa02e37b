package node

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"wanderfs/relay"
	"wanderfs/relay/wire"
)

// Config says how a node runs. Data is needed; the zero value of all else is
// its default.
type Config struct {
	Data           string        // data directory; made with mode 0700
	Shared         string        // what is shared; Data/shared
	Listen         []string      // multiaddrs of TCP; all interfaces, a free port
	Bootstrap      []string      // multiaddrs that end in /p2p/<peer>
	Network        string        // main
	Hops           int           // own relays of a reading path, 1 to 5; 3
	CacheSize      int64         // bytes; 10 GiB
	CacheKeyMemory bool          // the cache's key dies with the process
	SessionLife    time.Duration // mean; 60 min
	Reachability   string        // Auto, Public or Private; Auto
	NoRelay        bool          // relay nothing, with a new NodeID at each start
	UpLimit        int64         // bytes a second sent on circuits: half for own ones, half for others', see relay.Shares; 0 is no limit
	JoinEffort     int           // bits of work that gateways ask of readers of this node's shares under load; 0: relay.DefaultEffort, negative: none
	Limits         relay.Limits  // what others may make this node carry; those of relay.Limits
	Reshare        bool          // offer what was read to others, hours later, where at least 5 others share it
	MDNS           bool          // look for nodes in the local network
	NoUPnP         bool          // ask no router for a port
	Lab            bool          // a network of private addresses, apart from all others
	Private        []string      // what sharing by link refuses, besides Data: the mountpoint
	Version        string        // of the program, for status
	Log            *slog.Logger  // nil is silence

	far     func(relay.Far) relay.Far // tests look at what comes to this far end
	reshare reshareTiming             // tests do not wait for hours
}

// Errors of New that a caller acts on.
var (
	// ErrInUse: another process runs on the data directory. End it or take
	// another directory.
	ErrInUse = errors.New("data directory is in use by another node")
	// ErrNewer: a later version of the program wrote the data directory.
	ErrNewer = errors.New("data directory was written by a newer version")
)

const (
	maxHops    = 5
	formatFile = "format"
	lockFile   = "lock"
	format     = "1\n" // of the data directory
)

func (c Config) complete() (Config, error) {
	if c.Data == "" {
		return c, errors.New("no data directory")
	}
	if c.Shared == "" {
		c.Shared = filepath.Join(c.Data, "shared")
	}
	if c.Hops == 0 {
		c.Hops = 3
	}
	if c.Hops < 1 || c.Hops > maxHops {
		return c, fmt.Errorf("hops: not between 1 and %d", maxHops)
	}
	if c.SessionLife <= 0 {
		c.SessionLife = time.Hour
	}
	if c.JoinEffort == 0 {
		c.JoinEffort = relay.DefaultEffort
	}
	if c.JoinEffort > wire.MaxListenEffort {
		return c, fmt.Errorf("join-effort: more than %d", wire.MaxListenEffort)
	}
	if c.UpLimit < 0 {
		return c, errors.New("up-limit: negative")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// claim makes the data directory this process's own and checks its format.
func claim(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock := flock.New(filepath.Join(dir, lockFile), flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if !ok {
		return nil, ErrInUse
	}
	name := filepath.Join(dir, formatFile)
	b, err := os.ReadFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = writeFile(name, []byte(format))
	case err == nil && string(b) != format:
		err = ErrNewer // there is no older one yet
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("read data directory: %w", err)
	}
	return lock, nil
}
