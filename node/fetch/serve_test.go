package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wanderfs/cache/chunk"
)

// blocksFunc is Blocks by a function.
type blocksFunc func(ctx context.Context, r chunk.Ref) ([]byte, error)

func (f blocksFunc) Block(ctx context.Context, r chunk.Ref) ([]byte, error) { return f(ctx, r) }

// talk serves b on a pipe and gives the reader's end.
func talk(t *testing.T, s *Server, first []byte, fn func(c net.Conn)) error {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), far, first) }()
	fn(near)
	near.Close()
	return <-done
}

func readAnswer(t *testing.T, c io.Reader) (answer, []byte) {
	t.Helper()
	b := make([]byte, AnswerSize)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	a, err := parseAnswer(b)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, a.Length)
	if _, err := io.ReadFull(c, data); err != nil {
		t.Fatal(err)
	}
	return a, data
}

func get(tag uint32, r chunk.Ref, off, n int) []byte {
	return appendRequest(nil, request{Kind: kindGet, Tag: tag, Offset: uint32(off), Length: uint32(n), Ref: r})
}

func TestServeRanges(t *testing.T) {
	c := newContent(t, 2<<20+500, 20)
	p := newPublisher(t, c.blocks)
	r := c.leaves[1]
	b := c.blocks[r]
	err := talk(t, &Server{Blocks: p}, get(0, c.leaves[2], 0, wholeLength), func(conn net.Conn) {
		var batch []byte
		for i, x := range [][2]int{{0, wholeLength}, {100, 5}, {1<<20 - 10, 1000}, {1 << 20, 10}, {2 << 20, 1}, {65536, 65536}} {
			batch = append(batch, get(uint32(i+1), r, x[0], x[1])...)
		}
		go conn.Write(batch)
		for i, want := range [][]byte{c.blocks[c.leaves[2]], b, b[100:105], b[1<<20-10:], {}, {}, b[65536:131072]} {
			a, got := readAnswer(t, conn)
			if a.Tag != uint32(i) || a.Status != statusData || !bytes.Equal(got, want) {
				t.Errorf("%d: tag %d status %d, %d bytes, want %d", i, a.Tag, a.Status, len(got), len(want))
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
	if got := p.count(r); got > 2 {
		t.Errorf("one block was loaded %d times for ranges in a row", got)
	}
}

// Whatever the reason, what is not held is said in the same way at the same time.
func TestNotHeldTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		delay := map[chunk.Ref]time.Duration{}
		var refs []chunk.Ref
		for i, d := range []time.Duration{0, time.Millisecond, 30 * time.Millisecond} {
			refs = append(refs, chunk.Raw([]byte{byte(i)}))
			delay[refs[i]] = d
		}
		b := blocksFunc(func(_ context.Context, r chunk.Ref) ([]byte, error) {
			time.Sleep(delay[r])
			return nil, errors.New("for one reason or another")
		})
		err := talk(t, &Server{Blocks: b}, nil, func(conn net.Conn) {
			for i, r := range refs {
				start := time.Now()
				conn.Write(get(5, r, 0, 100))
				a, _ := readAnswer(t, conn)
				if want := (answer{Status: statusNotHeld, Tag: 5}); a != want {
					t.Errorf("%d: got %+v, want %+v", i, a, want)
				}
				if got, want := time.Since(start), 50*time.Millisecond; got != want {
					t.Errorf("%d: answered after %v, want %v", i, got, want)
				}
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestCancelAtServer(t *testing.T) {
	c := newContent(t, 8<<20, 21)
	p := newPublisher(t, c.blocks)
	release := make(chan struct{})
	slow := blocksFunc(func(ctx context.Context, r chunk.Ref) ([]byte, error) {
		<-release
		return p.Block(ctx, r)
	})
	err := talk(t, &Server{Blocks: slow, Ahead: 1}, nil, func(conn net.Conn) {
		for i := range 8 {
			conn.Write(get(uint32(i), c.leaves[i], 0, wholeLength))
		}
		q, _ := parseRequest(get(6, c.leaves[6], 0, wholeLength))
		q.Kind = kindCancel
		conn.Write(appendRequest(nil, q))
		q.Tag = 1000 // means nothing
		conn.Write(appendRequest(nil, q))
		conn.Write(get(8, c.leaves[0], 0, 10)) // the cancels were read when this was
		close(release)
		for i := range 9 {
			a, _ := readAnswer(t, conn)
			want := statusData
			if i == 6 {
				want = statusCancelled
			}
			if a.Status != want || a.Tag != uint32(i) {
				t.Errorf("%d: got tag %d status %d, want %d", i, a.Tag, a.Status, want)
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
	if got := p.count(c.leaves[6]); got != 0 {
		t.Errorf("the cancelled block was loaded %d times", got)
	}
}

func TestHostileReaders(t *testing.T) {
	c := newContent(t, 2<<20, 22)
	good := get(1, c.leaves[0], 0, 10)
	for _, x := range []struct {
		name  string
		first []byte
		sent  []byte
		want  error
	}{
		{"nonsense", nil, bytes.Repeat([]byte{0xff}, 1000), ErrProtocol},
		{"half a request", nil, good[:20], ErrProtocol},
		{"half a request at first", good[:20], nil, ErrProtocol},
		{"too much at first", bytes.Repeat(good, 10), nil, ErrProtocol},
		{"one tag twice", append(bytes.Clone(good), good...), nil, ErrProtocol},
		{"nothing", nil, nil, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			block := blocksFunc(func(ctx context.Context, _ chunk.Ref) ([]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
			err := talk(t, &Server{Blocks: block}, x.first, func(conn net.Conn) { conn.Write(x.sent) })
			if !errors.Is(err, x.want) {
				t.Errorf("got %v, want %v", err, x.want)
			}
		})
	}
}

// A reader that asks and asks and never reads costs a few blocks, no more.
func TestGreedyReader(t *testing.T) {
	c := newContent(t, 1<<20, 23)
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int32
		b := blocksFunc(func(context.Context, chunk.Ref) ([]byte, error) {
			loads.Add(1)
			return c.blocks[c.leaves[0]], nil
		})
		near, far := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- (&Server{Blocks: b}).Serve(t.Context(), far, nil) }()
		var sent atomic.Int32
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range uint32(100_000) {
				// Different refs, so that no loading is shared.
				if _, err := near.Write(get(i, chunk.Raw([]byte{byte(i), byte(i >> 8), byte(i >> 16)}), 0, wholeLength)); err != nil {
					return
				}
				sent.Add(1)
			}
		})
		synctest.Wait()
		if got := loads.Load(); got > 6 {
			t.Errorf("%d blocks loaded for a reader that takes none", got)
		}
		if got := sent.Load(); got > 1024+400 {
			t.Errorf("%d requests were taken", got)
		}
		time.Sleep(3 * time.Minute) // its patience ends
		if err := <-done; err == nil {
			t.Error("got no error")
		}
		near.Close()
		wg.Wait()
	})
}

func TestServeEndsWithContext(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- (&Server{Blocks: blocksFunc(nil)}).Serve(ctx, far, nil) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func FuzzServe(f *testing.F) {
	r := chunk.Raw([]byte("block"))
	f.Add(get(1, r, 0, 10))
	f.Add(append(get(1, r, 0, 10), get(2, r, 2, 10)...))
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := net.Pipe()
		done := make(chan error, 1)
		go func() {
			s := &Server{Miss: time.Microsecond, Blocks: blocksFunc(func(context.Context, chunk.Ref) ([]byte, error) { return []byte("block"), nil })}
			done <- s.Serve(context.Background(), far, nil)
		}()
		go io.Copy(io.Discard, near)
		near.Write(b)
		near.Close()
		<-done
	})
}

// A publisher that lies about lengths, sends what nobody asked for, or nonsense.
func TestHostilePublishers(t *testing.T) {
	c := newContent(t, 4<<20, 24)
	reply := func(mk func(q request) []byte) func(context.Context, io.ReadWriteCloser, []byte) error {
		return func(_ context.Context, conn io.ReadWriteCloser, first []byte) error {
			defer conn.Close()
			in := io.MultiReader(bytes.NewReader(first), conn)
			for {
				b := make([]byte, RequestSize)
				if _, err := io.ReadFull(in, b); err != nil {
					return err
				}
				q, err := parseRequest(b)
				if err != nil {
					return err
				}
				if _, err := conn.Write(mk(q)); err != nil {
					return err
				}
			}
		}
	}
	for name, serve := range map[string]func(context.Context, io.ReadWriteCloser, []byte) error{
		"nonsense": reply(func(request) []byte { return bytes.Repeat([]byte{7}, 100_000) }),
		"too long": reply(func(q request) []byte {
			return append(appendAnswer(nil, answer{Tag: q.Tag, Length: 2 << 20, Total: 2 << 20}), make([]byte, 3<<20)...)
		}),
		"too short": reply(func(q request) []byte {
			return append(appendAnswer(nil, answer{Tag: q.Tag, Length: 10, Total: 1 << 20}), make([]byte, 10)...)
		}),
		"huge claim": reply(func(q request) []byte {
			return appendAnswer(nil, answer{Tag: q.Tag, Length: 1 << 31, Total: 1 << 31})
		}),
		"wrong tag":     reply(func(q request) []byte { return appendAnswer(nil, answer{Tag: q.Tag + 1, Status: statusNotHeld}) }),
		"not cancelled": reply(func(q request) []byte { return appendAnswer(nil, answer{Tag: q.Tag, Status: statusCancelled}) }),
		"too much":      reply(func(q request) []byte { return appendAnswer(nil, answer{Tag: q.Tag, Status: statusTooMuch}) }),
		"empty":         reply(func(q request) []byte { return appendAnswer(nil, answer{Tag: q.Tag}) }),
		"unasked": func(_ context.Context, conn io.ReadWriteCloser, _ []byte) error {
			defer conn.Close()
			for {
				if _, err := conn.Write(make([]byte, 1<<20)); err != nil {
					return err
				}
			}
		},
		"hangs up": func(_ context.Context, conn io.ReadWriteCloser, _ []byte) error { return conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				evil, good := newPublisher(t, c.blocks), newPublisher(t, c.blocks)
				evil.serve = serve
				good.latency, good.rate = 200*time.Millisecond, 5e6
				within(t, Config{Store: newMemStore()}, []*publisher{evil, good}, func(f *Fetcher) {
					start := time.Now()
					if err := c.readAll(t.Context(), f, 128<<10); err != nil {
						t.Fatal(err)
					}
					if took := time.Since(start); took > 6*time.Second {
						t.Errorf("took %v", took)
					}
					if evil.dials > 30 {
						t.Errorf("dialled %d times", evil.dials)
					}
				})
			})
		})
	}
	runtime.GC()
}
