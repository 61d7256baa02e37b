// Package wire holds the messages of the relay protocol as bytes: encoding,
// decoding and sizes, and how set-up packets and the first messages of streams
// are sealed and answered. SPEC.md beside it is the authority.
//
// Decoders take exact lengths, refuse trailing bytes and allocate nothing that
// the sender sized. Nothing here does I/O.
package wire
