// Package mux is the multiplexer of connections: yamux on the wire, as libp2p's
// (https://github.com/hashicorp/yamux/blob/master/spec.md), many streams over
// one connection.
//
// It reads a circuit's frame into the buffer in which the relay opens it, and
// writes it from there as one TLS record, in the goroutine that made it: with
// go-yamux each frame was copied three times more, and went through one more
// goroutine.
//
// What has come and was not read lies in buffers of a frame's size, any two in
// a row more than half full, however small the messages were. A stream that is
// no circuit's may have FirstWindow bytes of it, which the resource manager
// counts; a circuit's buffers count in the relay's pool.
//
// Where to look: conn (connections, their streams and their end), wire (the
// bytes), send, recv and ping; stream (a stream's states), read (buffers and
// windows), write, deadline.
package mux
