package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// allowed is the architecture: which of our packages each may import. Arrows
// point one way; fs and node do not know each other, relay knows neither
// cache nor libp2p.
var allowed = map[string][]string{
	"cmd/wanderfs":       {"fs", "node", "node/control", "cache/chunk"},
	"cmd/wandersim":      {"relay", "relay/wire", "relay/relaytest", "node/index", "cache/chunk"},
	"fs":                 {"cache/chunk"},
	"fs/fusetest":        {"fs", "cache/chunk"},
	"node":               {"node/mux", "node/portmap", "node/view", "node/index", "node/share", "node/fetch", "node/control", "relay", "relay/wire", "cache", "cache/chunk"},
	"node/mux":           {"relay", "relay/wire"},
	"node/portmap":       {},
	"node/view":          {"relay", "relay/wire"},
	"node/view/viewtest": {"relay/wire"},
	"node/index":         {"relay/wire", "cache/chunk"},
	"node/share":         {"relay/wire", "cache/chunk"},
	"node/fetch":         {"relay", "relay/wire", "cache", "cache/chunk"},
	"node/control":       {"cache/chunk"},
	"relay":              {"relay/wire"},
	"relay/relaytest":    {"relay", "relay/wire"},
	"relay/wire":         {"cache/chunk"},
	"cache":              {"cache/chunk"},
	"cache/chunk":        {},
}

// owners are libraries that one package alone, and those below it, may import,
// outside tests.
var owners = map[string]string{
	"bazil.org/fuse":              "fs",
	"github.com/libp2p/go-libp2p": "node",
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "wanderfs/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for dec := json.NewDecoder(out); ; {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestArrows(t *testing.T) {
	for _, p := range packages(t) {
		from := strings.TrimPrefix(p.ImportPath, "wanderfs/")
		may, known := allowed[from]
		if !known {
			t.Errorf("%s is not in the table of packages", from)
			continue
		}
		for _, to := range p.Imports {
			if ours, ok := strings.CutPrefix(to, "wanderfs/"); ok && !slices.Contains(may, ours) {
				t.Errorf("%s imports %s", from, ours)
			}
			for lib, owner := range owners {
				if (to == lib || strings.HasPrefix(to, lib+"/")) && from != owner && !strings.HasPrefix(from, owner+"/") {
					t.Errorf("%s imports %s, only %s may", from, to, owner)
				}
			}
		}
	}
}

// TestTopLevel holds the project's root to what belongs there.
func TestTopLevel(t *testing.T) {
	want := []string{"LICENSE", "README.md", "cache", "cmd", "fs", "go.mod", "go.sum", "node", "relay"}
	out, err := exec.Command("git", "-C", filepath.Join("..", ".."), "ls-files").Output()
	if err != nil {
		t.Skip("not a git checkout")
	}
	for name := range strings.FieldsSeq(string(out)) {
		top, _, _ := strings.Cut(name, "/")
		if !strings.HasPrefix(top, ".") && !slices.Contains(want, top) {
			t.Errorf("the root holds %s", top)
		}
	}
}
