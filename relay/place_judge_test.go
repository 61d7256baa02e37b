package relay_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"wanderfs/relay/wire"
)

// tables counts the bytes of regions: upper and lower six bits of each.
type tables [kinds][16][2][64]float64

func (t *tables) add(s sight) {
	for kind, fs := range s.frames {
		for i, r := range regions {
			for _, f := range fs {
				for _, x := range f[r[0]:r[1]] {
					t[kind][i][0][x>>2]++
					t[kind][i][1][x&63]++
				}
			}
		}
	}
}

func (t *tables) join(o *tables) {
	for kind := range o {
		for i := range o[kind] {
			for half := range o[kind][i] {
				for j, x := range o[kind][i][half] {
					t[kind][i][half][j] += x
				}
			}
		}
	}
}

// chi gives how many standard deviations rows of counts are from what they
// would be if all had the same distribution (chi-square, normal approximation).
func chi(rows [][]float64) float64 {
	if len(rows) == 0 {
		return 0
	}
	col := make([]float64, len(rows[0]))
	var total float64
	for _, row := range rows {
		for j, x := range row {
			col[j] += x
			total += x
		}
	}
	sum, wide, high := 0.0, -1.0, -1.0
	for _, x := range col {
		wide += float64(bit(x > 0))
	}
	for _, row := range rows {
		n := 0.0
		for _, x := range row {
			n += x
		}
		high += float64(bit(n > 0))
		for j, x := range row {
			if e := n * col[j] / total; e > 0 {
				sum += (x - e) * (x - e) / e
			}
		}
	}
	df := wide * high
	if df <= 0 {
		return 0
	}
	return (sum - df) / math.Sqrt(2*df)
}

// trend gives how many standard deviations the share of x in n rises from place
// to place.
func trend(x, n []float64) float64 {
	var sx, sn, sk float64
	for k := range n {
		sx, sn, sk = sx+x[k], sn+n[k], sk+float64(k)*n[k]
	}
	p, mean := sx/sn, sk/sn
	up, spread := 0.0, 0.0
	for k := range n {
		d := float64(k) - mean
		up += d * (x[k] - p*n[k])
		spread += d * d * n[k]
	}
	if p == 0 || p == 1 || spread == 0 {
		return 0
	}
	return up / math.Sqrt(p*(1-p)*spread)
}

// differ gives for each kind of frames how many standard deviations the most
// striking table is from what it would be if all groups had the same
// distribution.
func differ(groups []*tables) (worst [kinds]float64) {
	for kind := range kinds {
		for i := range regions {
			for half := range 2 {
				var rows [][]float64
				for _, g := range groups {
					rows = append(rows, g[kind][i][half][:])
				}
				worst[kind] = max(worst[kind], chi(rows))
			}
		}
	}
	return worst
}

// adversary gathers what it needs to judge.
type adversary struct {
	seen     [wire.MaxHops][2]*tables // index k; 1: the one behind is the far end
	discrete map[string]map[int]int
	ends     map[string][]float64 // how circuits ended, index k
	x        [][]float64          // of the longest paths
	y        []int
	late     [][]float64 // numbers of frames of those that ended in the middle of something
	lateAt   []int
}

func newAdversary() *adversary {
	a := &adversary{discrete: map[string]map[int]int{}, ends: map[string][]float64{}}
	for k := range a.seen {
		a.seen[k] = [2]*tables{{}, {}}
	}
	return a
}

// add adds a circuit; what a busy one looks like is a matter of chance.
func (a *adversary) add(s sight, busy bool) {
	a.seen[s.k][bit(s.k == s.n-1)].add(s)
	if s.n != wire.MaxHops {
		return
	}
	a.x, a.y = append(a.x, s.features()), append(a.y, s.k)
	if s.end != "" {
		if a.ends[s.end] == nil {
			a.ends[s.end] = make([]float64, wire.MaxHops)
		}
		a.ends[s.end][s.k]++
	}
	if busy {
		v := []float64{float64(s.number[0]), float64(s.number[1]), float64(s.late[0]), float64(s.late[1])}
		a.late, a.lateAt = append(a.late, v), append(a.lateAt, s.k)
		return
	}
	d := s.discrete()
	if a.discrete[d] == nil {
		a.discrete[d] = map[int]int{}
	}
	a.discrete[d][s.k]++
}

// All bounds but the last are passed by chance less than once in a million runs.
const (
	maxDeviation = 8.0  // of a table, in standard deviations
	maxGuess     = 6.0  // of the classifier's right guesses
	maxTrend     = 5.0  // of a share from place to place
	maxBusy      = 12.0 // of right guesses from numbers at an end in the middle of something: what is under way then is a matter of times, SPEC.md §12
)

// judge tells what gives places away; nothing is empty.
func (a *adversary) judge(t *testing.T) (found []string) {
	t.Helper()
	for d, places := range a.discrete {
		for k := 1; k < wire.MaxHops; k++ {
			if places[k] != places[1] { // each circuit was seen from all places
				found = append(found, fmt.Sprintf("%d of %d circuits look at place %d as at place 1: %.60s", places[k], places[1], k, d))
				break
			}
		}
	}
	for name, groups := range a.groups() {
		zs := differ(groups)
		for kind, z := range zs {
			if z > maxDeviation {
				found = append(found, fmt.Sprintf("%s shows in bytes of %s: %.0f standard deviations", name, kindNames[kind], z))
			}
		}
		worst := slices.Max(zs[:])
		t.Logf("%s: most striking of all tables %.1f standard deviations, in %s", name, worst, kindNames[slices.Index(zs[:], worst)])
	}
	found = append(found, a.judgeEnds(t)...)
	found = append(found, judgeGuess(t, "bytes", maxGuess, a.x, a.y)...)
	return append(found, judgeGuess(t, "numbers", maxBusy, a.late, a.lateAt)...)
}

// groups gives the tables by what they may tell.
func (a *adversary) groups() map[string][]*tables {
	byPlace := make([]*tables, wire.MaxHops)
	origin, last := []*tables{{}, {}}, []*tables{{}, {}}
	for k := 1; k < wire.MaxHops; k++ {
		byPlace[k] = &tables{}
		for end, x := range a.seen[k] {
			for _, sum := range []*tables{byPlace[k], origin[bit(k == 1)], last[end]} {
				sum.join(x)
			}
		}
	}
	return map[string][]*tables{"place": byPlace[1:], "neighbour is the builder": origin, "next is the far end": last}
}

// judgeEnds looks at how circuits ended. From which side tells how many are on
// it, where relays fail, and so does how often that happens beside breaks of
// one's own connections: SPEC.md §1.2. All else is to be the same at all places:
// how often a connection of one's own breaks, and how an end comes that began
// elsewhere.
func (a *adversary) judgeEnds(t *testing.T) (found []string) {
	side, every := map[byte][]float64{}, make([]float64, wire.MaxHops)
	for _, k := range a.y {
		every[k]++
	}
	for end, places := range a.ends {
		if side[end[0]] == nil {
			side[end[0]] = make([]float64, wire.MaxHops)
		}
		for k, x := range places {
			if end[1] != 'X' {
				side[end[0]][k] += x
			}
		}
	}
	for end, places := range a.ends {
		of := side[end[0]]
		if end[1] == 'X' {
			of = every
		}
		z := trend(places, of)
		t.Logf("end %s: by place %v of %v, trend of %.1f standard deviations", end, places[1:], of[1:], z)
		if math.Abs(z) > maxTrend {
			found = append(found, fmt.Sprintf("the place shows in how often links end %s: %.0f standard deviations", end, z))
		}
		sum := 0.0
		for _, x := range places {
			sum += x
		}
		for k := 1; k < wire.MaxHops && sum > 40; k++ { // few: chance may leave one out
			if places[k] == 0 {
				found = append(found, fmt.Sprintf("an end %s rules out place %d", end, k))
			}
		}
	}
	return found
}

// judgeGuess lets a classifier guess places from features.
func judgeGuess(t *testing.T, from string, most float64, x [][]float64, y []int) (found []string) {
	t.Helper()
	if len(x) == 0 {
		return nil
	}
	right, of := guess(x, y)
	p := 1.0 / float64(slices.Max(y))
	z := (float64(right) - p*float64(of)) / math.Sqrt(p*(1-p)*float64(of))
	t.Logf("classifier from %s: %d of %d places guessed, by chance it would be %.0f: %.1f standard deviations", from, right, of, p*float64(of), z)
	if z > most {
		found = append(found, fmt.Sprintf("a classifier guesses %d of %d places from %s", right, of, from))
	}
	return found
}

// guess learns from one half of the circuits the mean and spread of all
// features at each place, and guesses the places of the other half.
func guess(x [][]float64, y []int) (right, of int) {
	half := len(x) / 2
	var mean, dev [wire.MaxHops][]float64
	var n [wire.MaxHops]float64
	for i := range half {
		k := y[i]
		if mean[k] == nil {
			mean[k], dev[k] = make([]float64, len(x[i])), make([]float64, len(x[i]))
		}
		n[k]++
		for j, v := range x[i] {
			mean[k][j] += v
			dev[k][j] += v * v
		}
	}
	for k := range mean {
		for j := range mean[k] {
			mean[k][j] /= n[k]
			dev[k][j] = math.Sqrt(max(0.01, dev[k][j]/n[k]-mean[k][j]*mean[k][j]))
		}
	}
	for i := half; i < len(x); i++ {
		best, least := 0, math.Inf(1)
		for k := range mean {
			if mean[k] == nil {
				continue
			}
			d := 0.0
			for j, v := range x[i] {
				u := (v - mean[k][j]) / dev[k][j]
				d += u*u/2 + math.Log(dev[k][j])
			}
			if d < least {
				best, least = k, d
			}
		}
		of++
		if best == y[i] {
			right++
		}
	}
	return right, of
}
