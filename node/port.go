package node

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	portFile = "port" // decimal
	lowPort  = 20000  // below the system's own range, which begins at 32768
	highPort = 32768
)

// listenAddrs returns what to listen on when the user does not say: all
// interfaces, at the port of the last start, so that what others remember and
// a router forwards stays true. Without dir, and after again tries, it is a new
// random one.
func listenAddrs(dir string, again int) (addrs []string, port int) {
	known := false
	if dir != "" && again == 0 {
		port, known = LastPort(dir)
	}
	if !known {
		port = lowPort + rand.IntN(highPort-lowPort)
	}
	return []string{fmt.Sprintf("/ip4/0.0.0.0/tcp/%d", port), fmt.Sprintf("/ip6/::/tcp/%d", port)}, port
}

// LastPort returns the TCP port at which the node with this data directory
// listened last, if it chose one itself.
func LastPort(data string) (port int, ok bool) {
	b, err := os.ReadFile(filepath.Join(data, portFile))
	if err != nil {
		return 0, false
	}
	port, err = strconv.Atoi(strings.TrimSpace(string(b)))
	return port, err == nil && port >= 1024 && port <= 65535
}

// listen starts the transport, and remembers the port that it chose itself.
func listen(c hostConfig, dir string) (*transport, error) {
	if len(c.Listen) > 0 {
		return newTransport(c)
	}
	var last error
	for again := range 4 {
		addrs, port := listenAddrs(dir, again)
		c.Listen = addrs
		t, err := newTransport(c)
		if err != nil {
			last = err
			continue
		}
		if dir != "" {
			if err := writeFile(filepath.Join(dir, portFile), []byte(strconv.Itoa(port)+"\n")); err != nil {
				t.Close()
				return nil, fmt.Errorf("remember port: %w", err)
			}
		}
		return t, nil
	}
	return nil, last
}
