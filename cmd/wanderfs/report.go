package main

import (
	"fmt"
	"math"
	"text/tabwriter"
	"time"
)

// load is what one relay carried.
type load struct {
	name  string
	bytes uint64
}

// report is what the demo measured.
type report struct {
	positions int
	bytes     int64
	found     time.Duration // of the ls that showed the film
	first     time.Duration // from opening to the first byte
	took      time.Duration
	files     int
	filesTook time.Duration
	carried   []load
}

// sum is what all relays carried together.
func (r *report) sum() uint64 {
	var n uint64
	for _, l := range r.carried {
		n += l.bytes
	}
	return n
}

// check fails if the relays did not carry what they must have: every byte
// once at each position.
func (r *report) check() error {
	want := float64(r.positions) * float64(r.bytes)
	if got := float64(r.sum()); math.Abs(got-want) > tolerance*want {
		return fmt.Errorf("the relays carried %.3f times the film, want %d times within %.0f %%", got/float64(r.bytes), r.positions, tolerance*100)
	}
	return nil
}

// table prints the report.
func (d *demo) table(r *report) {
	w := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	machines := 0
	for _, l := range r.carried {
		if l.bytes > uint64(r.bytes)/100 {
			machines++
		}
	}
	rate := float64(r.bytes) / (1 << 20) / r.took.Seconds()
	fmt.Fprintf(w, "\nfound with ls in\t%v\n", r.found.Round(time.Millisecond))
	fmt.Fprintf(w, "first byte after\t%v\n", r.first.Round(time.Millisecond))
	fmt.Fprintf(w, "film\t%s in %v = %.1f MiB/s, every byte verified\n", bytes(r.bytes), r.took.Round(time.Millisecond), rate)
	fmt.Fprintf(w, "folder\t%d files in %v, every byte verified\n", r.files, r.filesTook.Round(time.Millisecond))
	fmt.Fprintf(w, "relay positions crossed\t%d, in %d different processes\n", r.positions, machines)
	fmt.Fprintf(w, "\nprocess\tcarried of the film\n")
	for _, l := range r.carried {
		fmt.Fprintf(w, "%s\t%s\n", l.name, bytes(int64(l.bytes)))
	}
	fmt.Fprintf(w, "sum\t%s = %.2f x the film\n", bytes(int64(r.sum())), float64(r.sum())/float64(r.bytes))
	_ = w.Flush() // to a terminal
}
