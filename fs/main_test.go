package fs_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"wanderfs/fs"
	"wanderfs/fs/fusetest"
)

// child names what a re-executed test binary does instead of testing.
const child = "WANDERFS_FS_CHILD"

func TestMain(m *testing.M) {
	if do, ok := children[os.Getenv(child)]; ok {
		os.Exit(do(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

var children map[string]func(args []string) int

func init() {
	children = map[string]func([]string) int{
		"serve":   serveChild,
		"write":   writeChild,
		"sticky":  stickyChild,
		"mapping": mappingChild,
		"noisy":   noisyChild,
		"blocked": blockedChild,
		"private": privateChild,
	}
}

func drive(t testing.TB) (*fusetest.Drive, *fusetest.Library, *fusetest.Share) {
	l, s := fusetest.NewLibrary(), fusetest.NewShare(t.TempDir())
	return fusetest.Mount(t, fs.Config{Library: l, Share: s}), l, s
}
