package node

import (
	"wanderfs/node/fetch"
	"wanderfs/node/index"
)

// Errors of reading and searching, for callers that know only this package.
var (
	// ErrNotFound: nobody was found who has it. A later try may work.
	ErrNotFound = fetch.ErrNotFound
	// ErrStalled: sources are there, but nothing came for too long. A later
	// read may work.
	ErrStalled = fetch.ErrStalled
	// ErrQuery: a query that cannot be asked; the text says why.
	ErrQuery = index.ErrQuery
)
