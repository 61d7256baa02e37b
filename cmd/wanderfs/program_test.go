package main

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// binaries are the programs that the tests run, each built once, at its first
// use: the real one, without the race detector's slowness, one whose defences
// can be switched off, and one that looks more often whether it can be dialled.
var binaries struct {
	dir                     sync.Once
	in                      string
	real, switched, hurried built
}

// built is a program that is built at most once.
type built struct {
	sync.Mutex
	file string
}

// cleaning removes what was built after the tests.
type cleaning struct{ *testing.M }

func (c cleaning) Run() int {
	defer func() {
		if binaries.in != "" {
			os.RemoveAll(binaries.in)
		}
	}()
	return c.M.Run()
}

func TestMain(m *testing.M) {
	testscript.Main(cleaning{m}, map[string]func(){"wanderfs": wanderfs})
}

// lacking skips a test for which the machine lacks something; in CI that is a
// failure.
func lacking(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// build returns the program.
func build(t testing.TB) string {
	t.Helper()
	return binaries.real.build(t, "wanderfs", func(string) []string { return nil })
}

// buildSwitched returns the program with switches in it: started with a
// defence's name in withoutEnv, it lacks that one.
func buildSwitched(t testing.TB) string {
	t.Helper()
	return binaries.switched.build(t, "switched", func(dir string) []string {
		list, err := json.Marshal(map[string]any{"Replace": applied(t, dir)})
		if err != nil {
			t.Fatal(err)
		}
		overlay := filepath.Join(dir, "overlay.json")
		if err := os.WriteFile(overlay, list, 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"-overlay", overlay}
	})
}

// buildHurried returns the program with a libp2p that lets others dial it back
// at an address that it knows every few seconds instead of every hour.
func buildHurried(t testing.TB) string {
	t.Helper()
	return binaries.hurried.build(t, "hurried", func(dir string) []string {
		out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}\n{{.Path}}", "github.com/libp2p/go-libp2p").Output()
		if err != nil {
			t.Fatal(err)
		}
		from, module, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		to := filepath.Join(dir, "libp2p")
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
		for file, faster := range map[string][]string{
			"p2p/host/basic/addrs_reachability_tracker.go": {
				"RefreshInterval = 5 * time.Minute", "RefreshInterval = 5 * time.Second",
				"recentProbeInterval = 10 * time.Minute", "recentProbeInterval = 15 * time.Second",
				"highConfidenceAddrProbeInterval = 1 * time.Hour", "highConfidenceAddrProbeInterval = 10 * time.Second",
			},
			"p2p/protocol/autonatv2/autonat.go": {"defaultThrottlePeerDuration = 2 * time.Minute", "defaultThrottlePeerDuration = 2 * time.Second"},
		} {
			edit(t, filepath.Join(to, filepath.FromSlash(file)), func(text string) string {
				for i := 0; i < len(faster); i += 2 {
					if n := strings.Count(text, faster[i]); n != 1 {
						t.Fatalf("%s holds %q %d times, want once", file, faster[i], n)
					}
				}
				return strings.NewReplacer(faster...).Replace(text)
			})
		}
		for _, file := range []string{"go.mod", "go.sum"} {
			b, err := os.ReadFile(filepath.Join("..", "..", file))
			if err != nil {
				t.Fatal(err)
			}
			if file == "go.mod" {
				b = append(b, "\nreplace "+module+" => "+to+"\n"...)
			}
			if err := os.WriteFile(filepath.Join(dir, file), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return []string{"-modfile", filepath.Join(dir, "go.mod")}
	})
}

// edit changes a file.
func edit(t testing.TB, file string, change func(string) string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, []byte(change(string(b))), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// build makes the program in the folder of all binaries. flags puts what it is
// to be made of into dir, and says so in flags of go build.
func (b *built) build(t testing.TB, name string, flags func(dir string) []string) string {
	t.Helper()
	b.Lock()
	defer b.Unlock()
	if b.file != "" {
		return b.file
	}
	binaries.dir.Do(func() {
		dir, err := os.MkdirTemp("", "wanderfs-bin-")
		if err != nil {
			t.Fatal(err)
		}
		binaries.in = dir
	})
	sources := filepath.Join(binaries.in, name+"-sources")
	if err := os.MkdirAll(sources, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(binaries.in, name)
	// Nobody debugs it or asks it for its revision.
	args := append([]string{"build", "-ldflags=-s -w", "-buildvcs=false", "-o", file}, flags(sources)...)
	cmd := exec.Command("go", append(args, ".")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	b.file = file
	return file
}

// withoutEnv names the defence that a switched program lacks.
const withoutEnv = "WANDERFS_TEST_WITHOUT"

// switchSource is what every package with a change gets: without, and a count
// for what may happen a few times only.
const switchSource = `
import (
	"os"
	"sync/atomic"
)

var (
	withoutDefence = os.Getenv("` + withoutEnv + `")
	withoutCount   atomic.Int32
)

func without(defence string) bool { return withoutDefence == defence }
`

// change replaces old by new in one source file, to switch a defence off: it
// shows that a test would see its absence. The file must hold old once; new
// asks without(the defence's name) and does as old did otherwise.
type change struct{ file, old, new string }

// switches are all changes of the switched program.
var switches = []change{
	// encryption: takes the ciphers out of links, layers, streams and records.
	{"node/host.go", "libp2p.Security(libp2ptls.ID, newSecurity)", `func(c *libp2p.Config) error {
		if without("encryption") {
			return libp2p.NoSecurity(c)
		}
		return libp2p.Security(libp2ptls.ID, newSecurity)(c)
	}`},
	{"relay/layer.go", "	l.aead.Seal(body[:0], l.nonce[:], body, nil)\n", "	if !without(\"encryption\") {\n l.aead.Seal(body[:0], l.nonce[:], body, nil)\n }\n"},
	{"relay/layer.go", "if _, err := l.aead.Open(box[:0], l.nonce[:], box, nil); err != nil {", `if without("encryption") {
	} else if _, err := l.aead.Open(box[:0], l.nonce[:], box, nil); err != nil {`},
	{"relay/layer.go", "for i := 0; i < len(dst); i += 16 {", `for i := 0; i < len(dst) && !without("encryption"); i += 16 {`},
	{"relay/record.go", "	return r.aead.Seal(data[:0], r.nonce[:], data, nil), nil", `	if without("encryption") {
		return append(data, make([]byte, wire.TagSize)...), nil
	}
	return r.aead.Seal(data[:0], r.nonce[:], data, nil), nil`},
	{"relay/record.go", "	b, err := r.aead.Open(dst, r.nonce[:], data, nil)", `	if without("encryption") {
		return append(dst, data[:len(data)-wire.TagSize]...), nil
	}
	b, err := r.aead.Open(dst, r.nonce[:], data, nil)`},
	{"node/index/keys.go", "	return gcm(key).Seal(dst, nonce[:], plain, ad)", `	if without("encryption") {
		return append(append(dst, plain...), make([]byte, 16)...)
	}
	return gcm(key).Seal(dst, nonce[:], plain, ad)`},
	{"node/index/keys.go", "	p, err := gcm(key).Open(nil, sealed[:nonceSize], sealed[nonceSize:], ad)", `	if without("encryption") {
		return sealed[nonceSize:len(sealed)-16], nil
	}
	p, err := gcm(key).Open(nil, sealed[:nonceSize], sealed[nonceSize:], ad)`},
	// honesty: a publisher sends other bytes than its hashes promise.
	{"node/share/block.go", "			if r.Verify(data) != nil {", `			if without("honesty") {
				if !node && len(data) > 0 {
					data = append([]byte{data[0] ^ 1}, data[1:]...)
				}
			} else if r.Verify(data) != nil {`},
	// verification: a reader takes every byte for right.
	{"node/fetch/verify.go", "	err := t.f.hash(f.ref, buf.b)\n", "	err := t.f.hash(f.ref, buf.b)\n	if without(\"verification\") {\n err = nil\n }\n"},
	// repair: a reader builds two paths and no more.
	{"node/reader.go", "	path, own, err := r.f.own.path(", `	if without("repair") && withoutCount.Add(1) > 2 {
		return nil, fmt.Errorf("no more")
	}
	path, own, err := r.f.own.path(`},
	// successors: a publisher tells where its first session is, and no more.
	{"node/sharegroup.go", "	src, ok := s.source(g.p.network)\n", "	src, ok := s.source(g.p.network)\n	ok = ok && !(without(\"successors\") && g.isTold())\n"},
	// new numbers: every session has the same one.
	{"relay/session.go", "return s.keys.Number() }", "if without(\"new numbers\") {\n return wire.SessionNumber{1}\n }\n return s.keys.Number() }"},
	// choice: a reader puts relays that nobody can dial into its paths whenever one fits.
	{"node/held.go", "rand.IntN(r.share) != 0 {", `!without("choice") && rand.IntN(r.share) != 0 {`},
}

// applied writes the changed sources to dir and says which files they replace.
func applied(t testing.TB, dir string) map[string]string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		to := filepath.Join(dir, strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return to
	}
	texts := make(map[string]string)
	for _, c := range switches {
		text, ok := texts[c.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(c.file)))
			if err != nil {
				t.Fatal(err)
			}
			text = string(b)
		}
		if n := strings.Count(text, c.old); n != 1 {
			t.Fatalf("%s holds %d times what the tests change, want once:\n%s", c.file, n, c.old)
		}
		texts[c.file] = strings.Replace(text, c.old, c.new, 1)
	}
	replaced := make(map[string]string)
	for file, text := range texts {
		replaced[filepath.Join(root, filepath.FromSlash(file))] = write(file, text)
		pkg := path.Dir(file)
		added := path.Join(pkg, "without.go")
		replaced[filepath.Join(root, filepath.FromSlash(added))] = write(added, "package "+path.Base(pkg)+"\n"+switchSource)
	}
	return replaced
}

// TestDefencesAreFound looks whether the source still holds what the tests
// switch off, without waiting for them.
func TestDefencesAreFound(t *testing.T) {
	for _, file := range applied(t, t.TempDir()) {
		if _, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution); err != nil {
			t.Error(err)
		}
	}
}
