package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"wanderfs/node/control"
)

// dataFlag adds --data to a command that asks a running node.
func dataFlag(c *cobra.Command) *string {
	data := defaultData()
	if v, ok := os.LookupEnv(envName("data")); ok {
		data = v
	}
	return c.Flags().String("data", data, "data directory of the running node")
}

func dial(data string) *control.Client {
	return control.Dial(filepath.Join(data, control.SocketName))
}

// explain adds the hint that fits an answer of the control socket.
func explain(what string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", what, err)
	switch {
	case errors.Is(err, control.ErrNoNode):
		return withHint(err, "start one with: wanderfs mount (or name its directory with --data)")
	case errors.Is(err, control.ErrNotFound):
		return withHint(err, "whoever shares it may be offline; --wait waits, wanderfs status tells what this node lacks")
	}
	return err
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(v)
}

func statusCommand() *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Tell what the running node is doing"}
	data := dataFlag(c)
	asJSON := c.Flags().Bool("json", false, "everything, as JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client := dial(*data)
		defer client.Close()
		s, err := client.Status(c.Context())
		if err != nil {
			return explain("ask for the status", err)
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), s)
		}
		_, err = io.WriteString(c.OutOrStdout(), statusText(s))
		return err
	}
	return c
}

// statusText tells the state in words. It hides numbers and names: it may be
// pasted into a bug report.
func statusText(s control.Status) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	state := "ready"
	if !s.Ready {
		state = "waiting for " + s.WaitingFor
	}
	line("state", "%s", state)
	line("network", "%s: %d peers, %d relays known, reachability %s%s", s.Network, s.Peers, s.RelaysKnown, s.Reachability,
		map[bool]string{true: ", super node"}[s.SuperNode])
	roles := map[string]int{}
	for _, x := range s.Sessions {
		roles[x.Role]++
	}
	line("sessions", "%d publishing, %d reading", roles["publisher"], roles["reader"])
	paths := map[string]int{}
	for _, p := range s.Paths {
		if p.State == "ready" {
			paths[p.Purpose]++
		}
	}
	line("paths", "%d for reading, %d for publishing, %d for looking up", paths["read"], paths["publish"], paths["lookup"])
	line("shared", "%d files, %s, %d published, %d hashing", s.Shared.Files, bytes(s.Shared.Bytes), s.Shared.Published, s.Shared.Hashing)
	if n := s.Shared.Reshared; n > 0 {
		line("", "%d that were read are offered to others", n)
	}
	if n := len(s.Shared.Errors); n > 0 {
		line("", "%d could not be shared; wanderfs status --json tells which", n)
	}
	line("cache", "%s of %s", bytes(s.Cache.Bytes), bytes(s.Cache.Limit))
	for _, t := range s.Transfers {
		what := fmt.Sprintf("%s of %s at %s/s from %d sources", bytes(t.Done), bytes(t.Size), bytes(t.Rate), t.Sources)
		if t.Why != "" {
			what += fmt.Sprintf("; stalled for %d s: %s", t.StalledFor, t.Why)
		}
		line("reading", "%s", what)
	}
	line("relayed", "%s for others, %d circuits open", humanize.IBytes(s.Relayed.Bytes), s.Relayed.Circuits)
	b.WriteString("\nWho watches both ends of a path can link them by timing; a file that only one\nperson has can be tied to him by comparing when he is online, within days.\n")
	return b.String()
}

func bytes(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func searchCommand() *cobra.Command {
	c := &cobra.Command{Use: "search QUERY...", Short: "Print what is found under words", Args: cobra.MinimumNArgs(1)}
	data := dataFlag(c)
	asJSON := c.Flags().Bool("json", false, "results as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		client := dial(*data)
		defer client.Close()
		rows, err := client.Search(c.Context(), strings.Join(args, " "))
		if err != nil {
			return explain("search", err)
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), rows)
		}
		for _, r := range rows {
			size := bytes(r.Size)
			if r.Kind == "folder" {
				size = "folder"
			}
			fmt.Fprintf(c.OutOrStdout(), "%s  %9s  %s\n", r.CID, size, printable(r.Name))
		}
		if len(rows) == 0 {
			fmt.Fprintln(c.ErrOrStderr(), "nothing found")
		}
		return nil
	}
	return c
}

// printable makes a name from elsewhere safe for a terminal: what could move
// the cursor or turn the writing round is escaped.
func printable(name string) string {
	if q := strconv.Quote(name); q[1:len(q)-1] != name {
		return q
	}
	return name
}
