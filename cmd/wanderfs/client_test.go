package main

import (
	"strings"
	"testing"

	"wanderfs/node/control"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain.txt":        "plain.txt",
		"Übung 例え.bin":     "Übung 例え.bin",
		"a\x1b[2Jb":        `"a\x1b[2Jb"`,
		"cod\u202egpj.exe": `"cod\u202egpj.exe"`,
		"bad\xffutf8\n":    `"bad\xffutf8\n"`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestStatusTextHidesNumbersAndNames(t *testing.T) {
	s := control.Status{
		Node: "SECRET-node", Addrs: []string{"SECRET-addr"}, Ready: true,
		Sessions:  []control.Session{{Number: "SECRET-number", Role: "publisher"}},
		Shared:    control.Shared{Dir: "SECRET-dir", Errors: []string{"SECRET-file: cannot be read"}},
		Transfers: []control.Transfer{{CID: "SECRET-cid", Name: "SECRET-name", Why: "no progress"}},
		Drive:     control.Drive{Mountpoint: "SECRET-mountpoint"},
	}
	text := statusText(s)
	if strings.Contains(text, "SECRET") {
		t.Errorf("the text tells what it must hide:\n%s", text)
	}
	if !strings.Contains(text, "no progress") {
		t.Errorf("the text does not say why nothing happens:\n%s", text)
	}
}
