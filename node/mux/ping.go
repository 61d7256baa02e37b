package mux

import "time"

// ping measures the round trip, and ends a connection on which nothing comes.
func (m *Conn) ping() {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	silence := time.NewTimer(silenceMost)
	defer silence.Stop()
	for n := uint32(0); ; n++ {
		began, heard := time.Now(), m.heard.Load()
		m.control(head{typePing, flagSYN, 0, n})
		silence.Reset(silenceMost)
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

func (m *Conn) measured(rtt time.Duration) {
	if was := time.Duration(m.rtt.Load()); was != 0 {
		rtt = was/2 + rtt/2
	}
	m.rtt.Store(int64(rtt))
}
