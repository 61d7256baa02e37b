package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	configName = "config.toml"
	maxConfig  = 1 << 20 // bytes of config.toml; ours
)

// settings are the flags of mount and relay.
type settings struct {
	data, shared      string
	listen, bootstrap []string
	network           string
	hops              int
	cacheSize         string
	cacheKey          string
	sessionLife       time.Duration
	reachability      string
	noRelay           bool
	upLimit           string
	joinEffort        int
	reshare, mdns     bool
	noUPnP            bool
	allowOther        bool
	logLevel          string
	lab               bool
	lifeline          int
}

func (s *settings) register(f *pflag.FlagSet) {
	f.StringVar(&s.data, "data", defaultData(), "data directory; a second process on it is refused")
	f.StringVar(&s.shared, "shared", "", "directory behind the drive's shared folder (default DATA/shared)")
	f.StringArrayVar(&s.listen, "listen", nil, "multiaddr to listen on, repeatable (default all interfaces, TCP)")
	f.StringArrayVar(&s.bootstrap, "bootstrap", nil, "multiaddr of a node to start from, repeatable; remembered")
	f.StringVar(&s.network, "network", "main", "name of the network; networks never mix")
	f.IntVar(&s.hops, "hops", 3, "own relays of a reader's path, 1 to 5; a publisher's path has one less")
	f.StringVar(&s.cacheSize, "cache-size", "10GiB", "most bytes that the cache takes")
	f.StringVar(&s.cacheKey, "cache-key", "file", "where the cache's key is: file or memory")
	f.DurationVar(&s.sessionLife, "session-life", time.Hour, "mean life of a session")
	f.StringVar(&s.reachability, "reachability", "auto", "whether others can dial this node: auto, public or private")
	f.BoolVar(&s.noRelay, "no-relay", false, "do not relay for others; also a new node identity at each start")
	f.StringVar(&s.upLimit, "up-limit", "0", "most bytes a second that are sent: half for own sessions, half for others, never lent; 0 is no limit")
	f.IntVar(&s.joinEffort, "join-effort", relayEffort, "bits of work that readers of what is shared here must do while many come, 0 to 24; 0 is none")
	f.BoolVar(&s.reshare, "reshare", false, "offer what was read to others, hours later, where at least 5 others share it")
	f.BoolVar(&s.mdns, "mdns", false, "find nodes in the local network; tells it that this node is here")
	f.BoolVar(&s.noUPnP, "no-upnp", false, "do not ask the router to forward a port")
	f.BoolVar(&s.allowOther, "allow-other", false, "let other users of this machine see the drive")
	f.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error; debug is dangerous to share")
	f.BoolVar(&s.lab, "lab", false, "a network of private addresses, for tests; never mixes with a real one")
	f.IntVar(&s.lifeline, "lifeline", 0, "file descriptor whose end ends the process")
	_ = f.MarkHidden("lifeline")
}

const relayEffort = 16 // the node's own default

// fileless are the flags that only the command line may set.
var fileless = []string{"lab", "data", "help", "lifeline"}

func defaultData() string {
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "wanderfs")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "wanderfs-data"
	}
	return filepath.Join(home, ".local", "share", "wanderfs")
}

// envName is the environment's name for a flag.
func envName(flag string) string {
	return "WANDERFS_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// complete fills what the command line left open from the environment, then
// from config.toml, and checks everything.
func (s *settings) complete(c *cobra.Command) error {
	f := c.Flags()
	if v, ok := os.LookupEnv(envName("data")); ok && !f.Changed("data") {
		s.data = v
	}
	var err error
	if s.data, err = filepath.Abs(s.data); err != nil {
		return fmt.Errorf("find the data directory: %w", err)
	}
	conf, err := readConfig(filepath.Join(s.data, configName))
	if err != nil {
		return err
	}
	for name := range conf {
		if f.Lookup(name) == nil || slices.Contains(fileless, name) {
			return withHint(usagef("read %s: no setting %q", configName, name), "wanderfs "+c.Name()+" --help lists the settings")
		}
	}
	f.VisitAll(func(fl *pflag.Flag) {
		if err != nil || fl.Changed || slices.Contains(fileless, fl.Name) {
			return
		}
		values, from := conf[fl.Name], configName
		if v, ok := os.LookupEnv(envName(fl.Name)); ok {
			values, from = []string{v}, envName(fl.Name)
		}
		for _, v := range values {
			if serr := fl.Value.Set(v); serr != nil {
				err = usagef("%s: %s: %w", from, fl.Name, serr)
			}
		}
	})
	if err != nil {
		return err
	}
	if s.shared == "" {
		s.shared = filepath.Join(s.data, "shared")
	}
	if s.shared, err = filepath.Abs(s.shared); err != nil {
		return fmt.Errorf("find the shared directory: %w", err)
	}
	return s.check()
}

func (s *settings) check() error {
	if s.hops < 1 || s.hops > 5 {
		return usagef("--hops: %d is not between 1 and 5", s.hops)
	}
	if s.sessionLife < 10*time.Second || s.sessionLife > 24*time.Hour {
		return usagef("--session-life: %v is not between 10s and 24h", s.sessionLife)
	}
	if !slices.Contains([]string{"file", "memory"}, s.cacheKey) {
		return usagef("--cache-key: %q is neither file nor memory", s.cacheKey)
	}
	if !slices.Contains([]string{"auto", "public", "private"}, s.reachability) {
		return usagef("--reachability: %q is none of auto, public, private", s.reachability)
	}
	if n := len(s.network); n < 1 || n > 32 || strings.Trim(s.network, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return usagef("--network: the name must have 1 to 32 letters a-z, digits and dashes")
	}
	if strings.HasSuffix(s.network, "-lab") {
		return withHint(usagef("--network: the ending -lab is kept for lab networks"), "leave the ending out and add --lab")
	}
	if _, err := parseSize(s.cacheSize); err != nil {
		return usagef("--cache-size: %w", err)
	}
	if _, err := parseSize(s.upLimit); err != nil {
		return usagef("--up-limit: %w", err)
	}
	if s.joinEffort < 0 || s.joinEffort > 24 {
		return usagef("--join-effort: not between 0 and 24")
	}
	if _, err := s.level(); err != nil {
		return err
	}
	return nil
}

func (s *settings) level() (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(s.logLevel)); err != nil {
		return 0, usagef("--log-level: %q is none of debug, info, warn, error", s.logLevel)
	}
	return l, nil
}

// logger returns the program's logger. Debug warns first, because its lines
// may tell what nobody should learn.
func (s *settings) logger(w io.Writer) *slog.Logger {
	l, _ := s.level() // checked by complete
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l}))
	if l <= slog.LevelDebug {
		log.Warn("debug logging is on: do not share this log, it may tell who reads and shares what")
	}
	return log
}

// readConfig reads a flat TOML file of settings; a missing one is empty.
func readConfig(name string) (map[string][]string, error) {
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", configName, err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", configName, err)
	}
	return parseConfig(b)
}

func parseConfig(b []byte) (map[string][]string, error) {
	if len(b) > maxConfig {
		return nil, usagef("read %s: longer than %s", configName, humanize.IBytes(maxConfig))
	}
	var raw map[string]any
	if err := toml.Unmarshal(b, &raw); err != nil {
		return nil, usagef("read %s: %w", configName, err)
	}
	conf := make(map[string][]string, len(raw))
	for name, v := range raw {
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, e := range list {
			switch e.(type) {
			case string, bool, int64:
				conf[name] = append(conf[name], fmt.Sprint(e))
			default:
				return nil, usagef("read %s: %s is neither text, number, true or false, nor a list of them", configName, name)
			}
		}
	}
	return conf, nil
}

// parseSize reads bytes such as 512M, 10GiB or 2MB/s.
func parseSize(s string) (int64, error) {
	n, err := humanize.ParseBytes(strings.TrimSuffix(s, "/s"))
	if err != nil || n > math.MaxInt64 {
		return 0, fmt.Errorf("%q is no size such as 500M or 10GiB", s)
	}
	return int64(n), nil
}
