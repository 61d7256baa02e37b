package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/term"
)

// errNoFuse says that fuse3 is not installed.
var errNoFuse = errors.New("fuse3 is not installed")

// haveFuse reports whether the program that mounts is there.
func haveFuse() bool {
	_, err := exec.LookPath("fusermount3")
	return err == nil
}

// installLine is the one command that installs fuse3 on this machine.
func installLine() []string {
	line := []string{"apt-get", "install", "-y", "fuse3"}
	if os.Geteuid() != 0 {
		line = append([]string{"sudo"}, line...)
	}
	return line
}

// needFuse makes sure that fuse3 is there: it says which one line installs it
// and runs it if yes is given or the person at the terminal agrees.
func needFuse(ctx context.Context, yes bool, in io.Reader, out io.Writer) error {
	if haveFuse() {
		return nil
	}
	line := installLine()
	text := strings.Join(line, " ")
	if !yes {
		f, ok := in.(*os.File)
		if !ok || !term.IsTerminal(int(f.Fd())) {
			return withHint(errNoFuse, text)
		}
		fmt.Fprintf(out, "fuse3 is missing. Run this now?\n  %s\n[y/N] ", text)
		answer, _ := bufio.NewReader(in).ReadString('\n') // an end of input is a no
		if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
			return withHint(errNoFuse, text)
		}
	}
	fmt.Fprintf(out, "fuse3 is missing. Installing it: %s\n", text)
	err := install(ctx, line, out)
	if err != nil {
		// A fresh machine may have no package lists yet.
		update := append(line[:len(line)-3:len(line)-3], "update")
		if uerr := install(ctx, update, out); uerr == nil {
			err = install(ctx, line, out)
		}
	}
	if err != nil || !haveFuse() {
		return withHint(fmt.Errorf("install fuse3: %w", errors.Join(err, errNoFuse)), "run: "+text)
	}
	return nil
}

func install(ctx context.Context, line []string, out io.Writer) error {
	c := exec.CommandContext(ctx, line[0], line[1:]...)
	c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, out, out
	return c.Run()
}
