package relay

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/relay/wire"
)

// TestPingsComeByChance: a relay sees the reply, and each PONG, and then the
// next PING. What is between is twice the way to the builder and the builder's
// pause: if that were always the same, any idle path would tell its relays, to
// the millisecond, how far the builder is.
func TestPingsComeByChance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := (&Builder{}).withDefaults()
		const pings = 8
		var least, most [pings]time.Duration
		for n := range 200 {
			var l life
			l.init(b)
			answered := l.start
			for i := range pings {
				for asked := false; !asked; {
					var wait time.Duration
					if wait, asked, _ = l.due(b.Dead); !asked {
						time.Sleep(wait)
					}
				}
				l.wrote(0)
				pause := time.Since(answered)
				if n == 0 || pause < least[i] {
					least[i] = pause
				}
				most[i] = max(most[i], pause)
				if err := l.pong(l.token); err != nil {
					t.Fatal(err)
				}
				l.heard(wire.CmdPong)
				answered = time.Now()
			}
		}
		for i := range pings {
			usual := min(b.Quiet<<i, b.KeepAlive)
			if most[i] > usual || least[i] < usual/4 || most[i]-least[i] < usual/3 {
				t.Errorf("PING %d comes after %v to %v, want a time by chance up to %v", i+1, least[i], most[i], usual)
			}
		}
	})
}

// TestFirstPingComesByChance: the same of whole paths, and their first PING.
func TestFirstPingComesByChance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newLone(t)
		var paths []*Path
		for range 30 {
			paths = append(paths, a.path(t))
		}
		quiet := paths[0].b.Quiet
		time.Sleep(quiet)
		synctest.Wait()
		var after []time.Duration
		for _, p := range paths {
			p.life.mu.Lock()
			after = append(after, p.life.sent.Sub(p.life.start))
			p.life.mu.Unlock()
		}
		least, most := slices.Min(after), slices.Max(after)
		if most > quiet || least < quiet/2 || most-least < quiet/4 {
			t.Errorf("the first PING comes after %v to %v, want a time by chance from %v to %v", least, most, quiet/2, quiet)
		}
	})
}
