package control

// Status is what a node is doing. The JSON field names are fixed; scripts
// depend on them.
type Status struct {
	Version      string     `json:"version"`
	Node         string     `json:"node"`
	Ready        bool       `json:"ready"`       // a lookup path is up: search, hash and shared work
	WaitingFor   string     `json:"waiting_for"` // what is missing, in words; "" when ready
	Addrs        []string   `json:"addrs"`       // multiaddrs with /p2p/, for --bootstrap
	Reachability string     `json:"reachability"`
	SuperNode    bool       `json:"super_node"`
	Network      string     `json:"network"`
	Peers        int        `json:"peers"`
	RelaysKnown  int        `json:"relays_known"`
	Sessions     []Session  `json:"sessions"`
	Paths        []Path     `json:"paths"`
	Shared       Shared     `json:"shared"`
	Cache        Cache      `json:"cache"`
	Transfers    []Transfer `json:"transfers"`
	Relayed      Relayed    `json:"relayed"`
	Drive        Drive      `json:"drive"`
}

// Session is one living session of this node.
type Session struct {
	Number    string `json:"number"` // hex
	Role      string `json:"role"`   // reader or publisher
	ExpiresIn int64  `json:"expires_in_s"`
	Draining  bool   `json:"draining"`
}

// Path is one relay path that this node has built.
type Path struct {
	Purpose  string `json:"purpose"` // read, publish or lookup
	Relays   int    `json:"relays"`
	State    string `json:"state"` // building, ready or draining
	Age      int64  `json:"age_s"`
	BytesIn  uint64 `json:"bytes_in"`
	BytesOut uint64 `json:"bytes_out"`
}

// Shared sums up the shared directory. Bytes is their length on disk.
type Shared struct {
	Dir       string   `json:"dir"`
	Files     int64    `json:"files"`
	Bytes     int64    `json:"bytes"`
	Hashing   int64    `json:"hashing"`
	Published int64    `json:"published"`
	Reshared  int64    `json:"reshared"` // files and folders that were read and are offered
	Errors    []string `json:"errors"`
}

// Cache sums up the chunk cache, in bytes and chunks.
type Cache struct {
	Bytes  int64 `json:"bytes"`
	Limit  int64 `json:"limit"`
	Chunks int64 `json:"chunks"`
}

// Transfer is one reading task. Rate is in bytes a second.
type Transfer struct {
	CID        string `json:"cid"`
	Name       string `json:"name"`
	Done       int64  `json:"done"`
	Size       int64  `json:"size"`
	Rate       int64  `json:"rate"`
	Sources    int    `json:"sources"`
	StalledFor int64  `json:"stalled_for_s"`
	Why        string `json:"why"`
}

// Relayed sums up what the node carries for others. Bytes is payload, each
// byte counted once.
type Relayed struct {
	Circuits int    `json:"circuits"`
	Bytes    uint64 `json:"bytes"`
}

// Drive says where the drive is mounted; empty for a relay.
type Drive struct {
	Mountpoint string `json:"mountpoint"`
}

// normal returns s with empty lists instead of null, so that scripts can
// always iterate.
func (s Status) normal() Status {
	if s.Addrs == nil {
		s.Addrs = []string{}
	}
	if s.Sessions == nil {
		s.Sessions = []Session{}
	}
	if s.Paths == nil {
		s.Paths = []Path{}
	}
	if s.Transfers == nil {
		s.Transfers = []Transfer{}
	}
	if s.Shared.Errors == nil {
		s.Shared.Errors = []string{}
	}
	return s
}

// Result is one row of a search.
type Result struct {
	Name    string `json:"name"`
	CID     string `json:"cid"`
	Kind    string `json:"kind"` // file, folder or symlink
	Size    int64  `json:"size"`
	Sources int    `json:"sources"`
}

// Entry is one thing in a folder, or a root.
type Entry struct {
	Name   string `json:"name"`
	CID    string `json:"cid"`
	Kind   string `json:"kind"`
	Size   int64  `json:"size"`
	Target string `json:"target,omitempty"` // of a symlink
}

// ShareState tells how far the publication of one shared name is.
type ShareState struct {
	CID   string `json:"cid"`
	Phase string `json:"phase"` // hashing, waiting, published, kept or error
	Err   string `json:"error"`
}
