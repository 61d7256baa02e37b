package relay

// Queued gives how many frames wait in a relay's far ends.
func Queued(r *Relay) int64 { return r.queued.Load() }
