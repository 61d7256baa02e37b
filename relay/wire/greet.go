package wire

// The end-to-end handshake of a stream: the hybrid handshake with the session's
// key. SPEC.md §9
//
//	message 1: | enc (1120) | sealed: reader's key (1216) | first bytes | tag (16) |
//	message 2: | enc2 (1120) | tag (16) |

func streamInfo(network string, n SessionNumber) []byte {
	return append([]byte("wanderfs/"+network+"/stream/1\x00"), n[:]...)
}

// StreamKeys are the secrets of an end-to-end stream. SPEC.md §9
type StreamKeys struct {
	ToSession, ToReader [32]byte
}

// Greeting is an end-to-end handshake at the reader's side.
type Greeting struct{ i *initiator }

// NewGreeting makes message 1, with the reader's first bytes in it, at most
// MaxFirst.
func NewGreeting(network string, keys *SessionKeys, first []byte) (*Greeting, []byte, error) {
	if len(first) > MaxFirst {
		return nil, nil, ErrMalformed
	}
	i, err := initiate(streamInfo(network, keys.Number()), &keys.Key)
	if err != nil {
		return nil, nil, err
	}
	plain := append(append(make([]byte, 0, PublicKeySize+len(first)), i.own.pub[:]...), first...)
	box, err := i.send.Seal(nil, plain)
	if err != nil {
		return nil, nil, err
	}
	return &Greeting{i}, append(append(make([]byte, 0, HelloSize+len(first)), i.enc[:]...), box...), nil
}

// Finish takes message 2.
func (g *Greeting) Finish(msg *[WelcomeSize]byte) (StreamKeys, error) {
	s, err := g.i.finish(msg[:EncSize])
	if err != nil {
		return StreamKeys{}, err
	}
	k, tag := streamKeys(&s)
	if _, err := confirm(&tag).Open(nil, make([]byte, 12), msg[EncSize:], nil); err != nil {
		return StreamKeys{}, ErrMalformed
	}
	return k, nil
}

// GreetingID names a first message for a replay cache.
func GreetingID(msg []byte) ([]byte, error) {
	if len(msg) < HelloSize || len(msg) > HelloSize+MaxFirst {
		return nil, ErrMalformed
	}
	return msg[:EncSize], nil
}

// OpenGreeting answers message 1 with the session's private key, and gives
// message 2 and the reader's first bytes. A message is to be opened once.
func OpenGreeting(network string, n SessionNumber, key *PrivateKey, msg []byte) (out [WelcomeSize]byte, first []byte, k StreamKeys, err error) {
	enc, err := GreetingID(msg)
	if err != nil {
		return out, nil, k, err
	}
	r, err := receive(streamInfo(network, n), key, enc)
	if err != nil {
		return out, nil, k, err
	}
	plain, err := r.recv.Open(nil, msg[EncSize:])
	if err != nil {
		return out, nil, k, ErrMalformed
	}
	answer, s, err := r.answer(plain[:PublicKeySize])
	if err != nil {
		return out, nil, k, err
	}
	k, tag := streamKeys(&s)
	confirm(&tag).Seal(append(out[:0], answer[:]...), make([]byte, 12), nil, nil)
	return out, plain[PublicKeySize:], k, nil
}

func streamKeys(s *secret) (StreamKeys, [32]byte) {
	k := s.derive("wanderfs/stream/keys/1", 3)
	return StreamKeys{ToSession: k[0], ToReader: k[1]}, k[2]
}
