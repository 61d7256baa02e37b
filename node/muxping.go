package node

import "time"

// ping measures the round trip, and ends a connection on which nothing comes.
func (m *muxConn) ping() {
	t := time.NewTicker(muxPings)
	defer t.Stop()
	silence := time.NewTimer(muxSilence)
	defer silence.Stop()
	for n := uint32(0); ; n++ {
		began, heard := time.Now(), m.heard.Load()
		m.control(muxHead{muxPing, muxSYN, 0, n})
		silence.Reset(muxSilence)
		for answered := false; !answered; {
			select {
			case got := <-m.ponged:
				if answered = got == n; answered {
					m.measured(time.Since(began))
				}
			case <-silence.C:
				if m.heard.Load() == heard {
					m.end(errStalled)
					return
				}
				answered = true // it waits behind a lot of data
			case <-m.over:
				return
			}
		}
		select {
		case <-t.C:
		case <-m.over:
			return
		}
	}
}

func (m *muxConn) measured(rtt time.Duration) {
	if was := time.Duration(m.rtt.Load()); was != 0 {
		rtt = was/2 + rtt/2
	}
	m.rtt.Store(int64(rtt))
}
