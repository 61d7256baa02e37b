package main

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the commands as a user does; each script begins with what
// it shows.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}

// wanderfs is the program inside a script.
func wanderfs() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
