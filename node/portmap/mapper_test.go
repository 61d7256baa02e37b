package portmap

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestGatewayIn(t *testing.T) {
	const head = "Iface\tDestination\tGateway \tFlags\n"
	for table, want := range map[string]string{
		head + "eth0\t0009A8C0\t00000000\t0001\neth0\t00000000\t0109A8C0\t0003\n": "192.168.9.1",
		head + "eth0\t00000000\t00000000\t0001\n":                                 "",
		head + "eth0\t00000000\tzz\n\nshort":                                      "",
		"":                                                                        "",
	} {
		got, ok := gatewayIn(table)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("got %v, want %q", got, want)
		}
	}
}

// simRouter is a router in a simulation.
type simRouter struct {
	mu    sync.Mutex
	ip    netip.Addr           // guarded by mu
	ports map[uint16]time.Time // until when each is forwarded; guarded by mu
	down  bool                 // guarded by mu
	asked int                  // guarded by mu
}

func (r *simRouter) set(ip string, down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ip, r.down = netip.MustParseAddr(ip), down
}

func (r *simRouter) questions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// forwards reports whether the port is forwarded now.
func (r *simRouter) forwards(port uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ports[port].After(time.Now())
}

func (r *simRouter) external(context.Context) (netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.down {
		return netip.Addr{}, errNoRouter
	}
	return r.ip, nil
}

func (r *simRouter) open(_ context.Context, port uint16, lease time.Duration) (uint16, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return 0, errNoRouter
	}
	r.ports[port] = time.Now().Add(lease)
	return port, nil
}

func (r *simRouter) close(_ context.Context, port uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.ports, port)
}

// The port is forwarded by the router of the moment: after a move by the next
// one, after a failure again, and by none when the node has ended.
func TestMapperFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here := func(router string) lan {
			return lan{netip.MustParseAddr(router), netip.MustParsePrefix("192.168.1.2/24")}
		}
		home := &simRouter{ip: netip.MustParseAddr("11.1.0.1"), ports: map[uint16]time.Time{}}
		away := &simRouter{ip: netip.MustParseAddr("11.2.0.1"), ports: map[uint16]time.Time{}, down: true}
		routers := map[lan]*simRouter{here("192.168.1.1"): home, here("192.168.2.1"): away}
		var mu sync.Mutex
		at, online := here("192.168.1.1"), true
		m := &Mapper{
			ports: func() []uint16 { return []uint16{4001} },
			home: func() (lan, bool) {
				mu.Lock()
				defer mu.Unlock()
				return at, online
			},
			find: func(ctx context.Context, at lan) (forwarder, error) {
				r := routers[at]
				_, err := r.external(ctx)
				return r, err
			},
		}
		is := func(what, want string) {
			t.Helper()
			synctest.Wait()
			got, ok := m.Outside(4001)
			if ok != (want != "") || ok && got.String() != want+":4001" {
				t.Errorf("%s: got %v, want %q", what, got, want)
			}
			if m.Found() != (want != "") {
				t.Errorf("%s: says %v of whether a port is forwarded", what, want == "")
			}
		}
		move := func(to lan, ok bool) {
			mu.Lock()
			defer mu.Unlock()
			at, online = to, ok
		}
		m.start()
		time.Sleep(2 * time.Second)
		is("at the start", "11.1.0.1")
		time.Sleep(2 * leaseTime)
		if !home.forwards(4001) {
			t.Error("the lease was not renewed")
		}
		move(here("192.168.2.1"), true)
		time.Sleep(lookEvery)
		is("behind a router that forwards nothing", "")
		before := away.questions()
		time.Sleep(askAgain - lookEvery)
		if got := away.questions() - before; got > 2 {
			t.Errorf("a router that does not answer is asked %d times in %v", got, askAgain)
		}
		away.set("11.2.0.1", false)
		time.Sleep(askAgain)
		is("when it does", "11.2.0.1")
		away.set("11.3.0.1", false)
		time.Sleep(renewEvery + lookEvery)
		is("with another address", "11.3.0.1")
		away.set("11.3.0.1", true)
		for before = away.questions(); away.questions() == before; {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		is("after one answer was lost", "11.3.0.1")
		time.Sleep((lostMost + 1) * lookEvery)
		is("after many", "")
		away.set("11.3.0.1", false)
		time.Sleep(askAgain + lookEvery)
		is("when it is back", "11.3.0.1")
		move(lan{}, false)
		time.Sleep(lookEvery)
		is("without a network", "")
		move(here("192.168.1.1"), true)
		time.Sleep(lookEvery)
		is("at home again", "11.1.0.1")
		m.Close()
		m.Close()
		if home.forwards(4001) {
			t.Error("has ended, and the router forwards its port")
		}
	})
}

// description is what a router says of itself.
const description = `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>/control</controlURL>
</service></serviceList></device></root>`

// soapAnswer is a router's answer to one call.
func soapAnswer(body string) string {
	return `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>` + body + `</s:Body></s:Envelope>`
}

// fakeUPnP is a router that speaks UPnP by HTTP. Calls to what is in hangs are
// not answered.
func fakeUPnP(t *testing.T, fault map[string]int, hangs ...string) (*url.URL, func() []string) {
	t.Helper()
	var mu sync.Mutex
	var called []string
	gone := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			w.Write([]byte(description))
			return
		}
		_, call, _ := strings.Cut(strings.Trim(r.Header.Get("SOAPACTION"), `"`), "#")
		mu.Lock()
		called = append(called, call)
		code, failed := fault[call], fault[call] != 0
		delete(fault, call)
		mu.Unlock()
		for _, h := range hangs {
			if h == call {
				<-gone
				return
			}
		}
		switch {
		case failed:
			w.WriteHeader(500)
			w.Write([]byte(soapAnswer(`<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>` +
				map[int]string{725: "725", 718: "718"}[code] + `</errorCode></UPnPError></detail></s:Fault>`)))
		case call == "GetExternalIPAddress":
			w.Write([]byte(soapAnswer(`<u:GetExternalIPAddressResponse xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1"><NewExternalIPAddress>11.1.0.1</NewExternalIPAddress></u:GetExternalIPAddressResponse>`)))
		default:
			w.Write([]byte(soapAnswer(`<u:` + call + `Response xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1"></u:` + call + `Response>`)))
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(gone) }) // first
	at, err := url.Parse(s.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	return at, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), called...)
	}
}

var loopback = netip.MustParsePrefix("127.0.0.1/8")

func TestUPnPRouter(t *testing.T) {
	at, called := fakeUPnP(t, map[string]int{"AddPortMapping": upnpNoLease})
	r, err := openUPnP(t.Context(), upnpClient(), at, loopback)
	if err != nil {
		t.Fatal(err)
	}
	if ip, err := r.external(t.Context()); err != nil || ip.String() != "11.1.0.1" {
		t.Errorf("got address %v, %v", ip, err)
	}
	if port, err := r.open(t.Context(), 4001, leaseTime); err != nil || port != 4001 {
		t.Errorf("a router without leases: got port %d, %v", port, err)
	}
	r.close(t.Context(), 4001)
	r.close(t.Context(), 4001)
	want := "GetExternalIPAddress GetExternalIPAddress AddPortMapping AddPortMapping DeletePortMapping"
	if got := strings.Join(called(), " "); got != want {
		t.Errorf("called %s, want %s", got, want)
	}
	taken, _ := fakeUPnP(t, map[string]int{"AddPortMapping": 718})
	if r, err = openUPnP(t.Context(), upnpClient(), taken, loopback); err != nil {
		t.Fatal(err)
	}
	port, err := r.open(t.Context(), 4001, leaseTime)
	if err != nil || port == 4001 || port < lowPort || port >= highPort {
		t.Errorf("a port that is taken: got %d, %v", port, err)
	}
	if again, err := r.open(t.Context(), 4001, leaseTime); err != nil || again != port {
		t.Errorf("renewed: got %d, %v, want %d", again, err, port)
	}
}

// A router that falls silent keeps Close no longer than it says, and nothing
// runs after it.
func TestMapperEndsWithItsClose(t *testing.T) {
	for _, silent := range []string{"DeletePortMapping", "AddPortMapping", "GetExternalIPAddress"} {
		at, called := fakeUPnP(t, nil, silent)
		before := goleak.IgnoreCurrent()
		m := &Mapper{
			ports: func() []uint16 { return []uint16{4001} },
			home:  func() (lan, bool) { return lan{own: loopback}, true },
			find: func(ctx context.Context, _ lan) (forwarder, error) {
				return openUPnP(ctx, upnpClient(), at, loopback)
			},
		}
		m.start()
		for over := time.After(time.Minute); !m.Found() && !strings.HasSuffix(strings.Join(called(), " "), silent); {
			select {
			case <-over:
				t.Fatal("no call came")
			case <-time.After(5 * time.Millisecond):
			}
		}
		begin := time.Now()
		m.Close()
		t.Logf("without an answer to %s: closed after %v", silent, time.Since(begin))
		server := goleak.IgnoreAnyFunction("net/http.(*conn).serve") // of the test's own router
		if err := goleak.Find(before, server, goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead")); err != nil {
			t.Error(err)
		}
	}
}
