package wire

import "log/slog"

// Version is the wire version that this package speaks. SPEC.md §1
const Version = 1

// NodeID names a node as a relay: the Ed25519 public key of its transport
// identity. It hides itself in logs and errors.
type NodeID [32]byte

// SessionNumber names a session: a hash over its public keys, see
// SessionKeys.Number. It hides itself in logs and errors.
type SessionNumber [32]byte

// String hides the node.
func (NodeID) String() string { return "[node]" }

// GoString hides the node.
func (NodeID) GoString() string { return "[node]" }

// LogValue hides the node.
func (NodeID) LogValue() slog.Value { return slog.StringValue("[node]") }

// IsZero reports whether n names nobody.
func (n NodeID) IsZero() bool { return n == NodeID{} }

// String hides the session.
func (SessionNumber) String() string { return "[session]" }

// GoString hides the session.
func (SessionNumber) GoString() string { return "[session]" }

// LogValue hides the session.
func (SessionNumber) LogValue() slog.Value { return slog.StringValue("[session]") }
