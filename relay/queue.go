package relay

// fifo is a queue of frames that keeps its room.
type fifo struct {
	buf  []*frame
	head int
	n    int
}

func (q *fifo) push(f *frame) {
	if q.n == len(q.buf) {
		buf := make([]*frame, max(8, 2*len(q.buf)))
		for i := range q.n {
			buf[i] = q.buf[(q.head+i)%len(q.buf)]
		}
		q.buf, q.head = buf, 0
	}
	q.buf[(q.head+q.n)%len(q.buf)] = f
	q.n++
}

func (q *fifo) pop() *frame {
	if q.n == 0 {
		return nil
	}
	f := q.buf[q.head]
	q.buf[q.head] = nil
	q.head = (q.head + 1) % len(q.buf)
	q.n--
	return f
}
