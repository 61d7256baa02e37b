package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"wanderfs/node/control"
)

// StatusFiles lists what is in status/ on the drive.
func (l library) StatusFiles() []string {
	return []string{"errors", "node", "paths", "peers", "sessions", "status.json", "transfers"}
}

// Status returns the text of one of them. They are for the owner's eyes
// alone, so they show names and numbers.
func (l library) Status(name string) string {
	s := l.n.Status()
	var b strings.Builder
	switch name {
	case "errors":
		for _, e := range s.Shared.Errors {
			fmt.Fprintln(&b, printable(e))
		}
		for _, t := range s.Transfers {
			if t.Why != "" {
				fmt.Fprintf(&b, "%s: %s\n", t.CID, t.Why)
			}
		}
	case "node":
		return statusText(s)
	case "paths":
		for _, p := range s.Paths {
			fmt.Fprintf(&b, "%-8s %d relays  %-9s %5d s  in %s, out %s\n", p.Purpose, p.Relays, p.State, p.Age, bytes(int64(p.BytesIn)), bytes(int64(p.BytesOut)))
		}
	case "peers":
		fmt.Fprintf(&b, "%d peers, %d relays known\n", s.Peers, s.RelaysKnown)
		for _, a := range s.Addrs {
			fmt.Fprintln(&b, a)
		}
	case "sessions":
		for _, x := range s.Sessions {
			fmt.Fprintf(&b, "%s  %-9s %d s left%s\n", x.Number, x.Role, x.ExpiresIn, map[bool]string{true: ", draining"}[x.Draining])
		}
	case "status.json":
		j, err := json.MarshalIndent(s, "", " ")
		if err != nil {
			return ""
		}
		return string(j) + "\n"
	case "transfers":
		for _, t := range s.Transfers {
			fmt.Fprintln(&b, transferLine(t))
		}
	}
	return b.String()
}

func transferLine(t control.Transfer) string {
	line := fmt.Sprintf("%s  %s of %s at %s/s from %d sources", t.CID, bytes(t.Done), bytes(t.Size), bytes(t.Rate), t.Sources)
	if t.Why != "" {
		line += fmt.Sprintf("; stalled for %d s: %s", t.StalledFor, t.Why)
	}
	return line
}
