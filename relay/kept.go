package relay

// kept is something that waits at a far end: a cell in a stream's queue, or a
// request that is not whole.
type kept struct {
	at         int64 // since when, in Unix nanoseconds; 0: it does not
	by         *half // the stream; nil for a request
	prev, next *kept
}

// ages is what waits at a far end, the oldest first. What comes is the youngest,
// so nothing is searched or moved; the links lie in what waits, as container/list
// would allocate one for each cell.
type ages struct{ first, last *kept }

func (l *ages) add(k *kept, at int64, by *half) {
	k.at, k.by, k.prev, k.next = at, by, l.last, nil
	if l.last == nil {
		l.first = k
	} else {
		l.last.next = k
	}
	l.last = k
}

// remove takes k out, if it is there.
func (l *ages) remove(k *kept) {
	if k.at == 0 {
		return
	}
	if k.prev == nil {
		l.first = k.next
	} else {
		k.prev.next = k.next
	}
	if k.next == nil {
		l.last = k.prev
	} else {
		k.next.prev = k.prev
	}
	*k = kept{}
}
