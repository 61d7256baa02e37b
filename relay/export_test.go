package relay

// Held gives how many frames a relay holds.
func Held(r *Relay) int64 { return r.pool.held.Load() }
