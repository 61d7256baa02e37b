package node

import (
	"os"
	"strconv"
	"strings"
	"time"
	"wanderfs/node/view"
)

// A node of whom others see more than view.MaxVersions descriptors in view.VersionsFor is
// not believed for as long. So it signs fewer, also when it starts again and
// again, as on a machine that crashes: it waits, before others hear of it anew,
// and reads and publishes meanwhile. Some are left over for what others hear
// late.
const (
	ownVersions    = view.MaxVersions - 2
	ownVersionsFor = view.VersionsFor + view.AdoptAfter
	issuedFile     = "issued" // seconds since 1970, decimal, one a line
)

// issued knows when this node signed descriptors with addresses, which are
// those that others count, across starts.
type issued struct {
	file string // "" persists nothing
	at   []time.Time
}

// readIssued reads what was persisted. What cannot be read counts for nothing:
// the worst of that is a relay that is not believed for two hours.
func readIssued(file string) issued {
	i := issued{file: file}
	if file == "" {
		return i
	}
	b, err := os.ReadFile(file)
	if err != nil || len(b) > 4096 {
		return i
	}
	for line := range strings.Lines(string(b)) {
		if s, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64); err == nil {
			i.at = append(i.at, time.Unix(s, 0))
		}
	}
	return i
}

// take reports whether one more may be signed now, and counts it. It is on disk
// before anybody can hear of it.
func (i *issued) take(now time.Time) bool {
	kept := i.at[:0]
	for _, at := range i.at {
		if now.Sub(at).Abs() < ownVersionsFor { // a clock that was wrong blocks nothing for long
			kept = append(kept, at)
		}
	}
	i.at = kept
	if len(i.at) >= ownVersions {
		return false
	}
	i.at = append(i.at, now)
	if i.file != "" {
		var b []byte
		for _, at := range i.at {
			b = append(strconv.AppendInt(b, at.Unix(), 10), '\n')
		}
		_ = writeFile(i.file, b) // a full disk is told elsewhere; relaying goes on
	}
	return true
}
