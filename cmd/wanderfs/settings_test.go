package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// parse completes the settings of one command line, without running a node.
func parse(t *testing.T, args ...string) (settings, error) {
	t.Helper()
	var s settings
	c := &cobra.Command{Use: "mount", SilenceErrors: true, SilenceUsage: true}
	s.register(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error { return s.complete(c) }
	c.SetArgs(args)
	return s, c.Execute()
}

func TestCommandLineBeforeEnvironmentBeforeFile(t *testing.T) {
	dir := t.TempDir()
	config := "hops = 2\nsession-life = \"20m\"\nbootstrap = [\"/ip4/1.2.3.4/tcp/1/p2p/x\", \"/ip4/5.6.7.8/tcp/1/p2p/y\"]\nmdns = true\n"
	if err := os.WriteFile(filepath.Join(dir, configName), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("WANDERFS_SESSION_LIFE", "30m")
	t.Setenv("WANDERFS_HOPS", "4")
	s, err := parse(t, "--data", dir, "--hops", "5")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.hops, 5; got != want {
		t.Errorf("hops: got %d, want %d from the command line", got, want)
	}
	if got, want := s.sessionLife, 30*time.Minute; got != want {
		t.Errorf("session-life: got %v, want %v from the environment", got, want)
	}
	if !s.mdns || len(s.bootstrap) != 2 {
		t.Errorf("mdns %v, bootstrap %v: want them from the file", s.mdns, s.bootstrap)
	}
	if got, want := s.shared, filepath.Join(dir, "shared"); got != want {
		t.Errorf("shared: got %s, want %s", got, want)
	}
}

func TestBadSettingsSayWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		config string
		args   []string
		want   string
	}{
		{args: []string{"--hops", "6"}, want: "not between 1 and 5"},
		{args: []string{"--hops", "0"}, want: "not between 1 and 5"},
		{args: []string{"--session-life", "1s"}, want: "not between"},
		{args: []string{"--cache-key", "usb"}, want: "neither file nor memory"},
		{args: []string{"--cache-size", "lots"}, want: "no size"},
		{args: []string{"--cache-size", "-1"}, want: "no size"},
		{args: []string{"--up-limit", "9EiB"}, want: "no size"},
		{args: []string{"--join-effort", "25"}, want: "--join-effort"},
		{args: []string{"--reachability", "maybe"}, want: "none of"},
		{args: []string{"--network", "a/b"}, want: "letters a-z"},
		{args: []string{"--network", "x-lab"}, want: "-lab is kept"},
		{args: []string{"--log-level", "loud"}, want: "none of debug"},
		{config: "lab = true", want: `no setting "lab"`},
		{config: "hopps = 3", want: `no setting "hopps"`},
		{config: "hops = [[1]]", want: "neither text, number"},
		{config: "hops = ", want: "config.toml"},
		{config: "hops = \"three\"", want: "hops"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, configName), []byte(tt.config), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := parse(t, append([]string{"--data", dir}, tt.args...)...)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v %q: got %v, want an error with %q", tt.args, tt.config, err, tt.want)
		}
	}
}

func TestLabIsForTheCommandLineAlone(t *testing.T) {
	t.Setenv("WANDERFS_LAB", "true")
	s, err := parse(t, "--data", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if s.lab {
		t.Error("the environment made this a lab network")
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "512": 512, "1KiB": 1024, "10GiB": 10 << 30, "2MB/s": 2e6, "1.5 GiB": 3 << 29} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", in, got, err, want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("hops = 3\n[a]\nb = 1"))
	f.Add([]byte("bootstrap = ['a', 'b']"))
	f.Fuzz(func(t *testing.T, b []byte) {
		conf, err := parseConfig(b)
		if err != nil && conf != nil {
			t.Error("an error and settings")
		}
	})
}

func FuzzParseSize(f *testing.F) {
	f.Add("10GiB")
	f.Add("-1/s")
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseSize(s); err == nil && n < 0 {
			t.Errorf("%q is %d bytes", s, n)
		}
	})
}
