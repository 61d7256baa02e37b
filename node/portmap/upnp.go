package portmap

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/huin/goupnp"
	igd "github.com/huin/goupnp/dcps/internetgateway2"
	"github.com/huin/goupnp/httpu"
	"github.com/huin/goupnp/soap"
	"github.com/huin/goupnp/ssdp"
)

const (
	upnpSearch  = 2 * time.Second // for routers to answer one search; whole seconds
	upnpSends   = 3               // of each search: UDP loses some
	upnpMost    = 4               // answers looked at, and connections of each; more has no router of a home
	upnpAnswer  = 64 << 10        // bytes of one answer by HTTP; real ones have 5 KiB
	upnpTries   = 3               // random ports, where the own one is taken
	lowPort     = 20000           // of the random ones
	highPort    = 32768
	upnpNoLease = 725 // a router's error: it lends for ever only; UPnP WANIPConnection §2.4.16
)

// errNoRouter says that nobody answers who could forward a port.
var errNoRouter = errors.New("no router answers")

// wanConnection is what the services of a UPnP router have in common.
type wanConnection interface {
	GetExternalIPAddressCtx(context.Context) (string, error)
	AddPortMappingCtx(ctx context.Context, remote string, external uint16, protocol string, internal uint16, client string, enabled bool, description string, lease uint32) error
	DeletePortMappingCtx(ctx context.Context, remote string, external uint16, protocol string) error
}

// upnpRouter is a router that speaks UPnP. It implements forwarder.
type upnpRouter struct {
	wan  wanConnection
	own  netip.Addr        // of this node, as the router sees it
	held map[uint16]uint16 // own port -> the router's
}

// findUPnP asks all around for a router. Every step of it ends with ctx, and
// leaves no goroutine and no connection.
func findUPnP(ctx context.Context, own netip.Prefix) (*upnpRouter, error) {
	client := upnpClient()
	for _, target := range []string{igd.URN_WANConnectionDevice_2, igd.URN_WANConnectionDevice_1, urnGateway} {
		places, err := searchUPnP(ctx, own.Addr(), target)
		if err != nil {
			return nil, err
		}
		for _, at := range places[:min(len(places), upnpMost)] {
			if host, err := netip.ParseAddr(at.Hostname()); err != nil || !own.Contains(host) {
				continue // not around here, whoever says so
			}
			if r, err := openUPnP(ctx, client, at, own); err == nil {
				return r, nil
			}
		}
	}
	return nil, errNoRouter
}

// upnpClient talks to what calls itself a router: without proxies, straight to
// where it was asked to, and leaves no connection open.
func upnpClient() *http.Client {
	return &http.Client{
		Transport:     bounded{&http.Transport{DisableKeepAlives: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       upnpSearch,
	}
}

// urnGateway is what a router is as a whole: some answer to that name only.
const urnGateway = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"

// searchUPnP returns where those who answer describe themselves.
func searchUPnP(ctx context.Context, own netip.Addr, target string) ([]*url.URL, error) {
	conn, err := httpu.NewHTTPUClientAddr(own.String())
	if err != nil {
		return nil, errors.New("search a router: no socket")
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, upnpSearch+time.Second/2) // whole seconds of it are told
	defer cancel()
	answers, err := ssdp.RawSearch(ctx, conn, target, upnpSends)
	if err != nil {
		return nil, errors.New("search a router: not sent")
	}
	var out []*url.URL
	for _, a := range answers {
		if at, err := a.Location(); err == nil && at.Scheme == "http" {
			out = append(out, at)
		}
	}
	return out, nil
}

// openUPnP reads what a router says of itself and takes the first connection to
// the outside that has an address.
func openUPnP(ctx context.Context, client *http.Client, at *url.URL, own netip.Prefix) (*upnpRouter, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, errNoRouter
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, errNoRouter
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errNoRouter
	}
	root, err := readDescription(resp.Body, at)
	if err != nil {
		return nil, err
	}
	for _, wan := range connections(root, client, at) {
		r := &upnpRouter{wan: wan, own: own.Addr(), held: make(map[uint16]uint16)}
		if _, err := r.external(ctx); err == nil {
			return r, nil
		}
	}
	return nil, errNoRouter
}

// readDescription reads what a router at at says of itself.
func readDescription(r io.Reader, at *url.URL) (*goupnp.RootDevice, error) {
	var root goupnp.RootDevice
	dec := xml.NewDecoder(r)
	dec.DefaultSpace = goupnp.DeviceXMLNamespace
	if dec.Decode(&root) != nil {
		return nil, errNoRouter
	}
	base := at
	if b, err := url.Parse(root.URLBaseStr); err == nil && b.Hostname() == at.Hostname() {
		base = b
	}
	root.SetURLBase(base)
	return &root, nil
}

// connections gives the connections to the outside that the router itself has,
// upnpMost at most: it cannot send this node to other machines.
func connections(root *goupnp.RootDevice, client *http.Client, at *url.URL) (out []wanConnection) {
	root.Device.VisitServices(func(s *goupnp.Service) {
		if len(out) == upnpMost || s.ControlURL.URL.Hostname() != at.Hostname() {
			return
		}
		sc := goupnp.ServiceClient{SOAPClient: s.NewSOAPClient(), RootDevice: root, Service: s}
		sc.SOAPClient.HTTPClient = *client
		switch s.ServiceType {
		case igd.URN_WANIPConnection_1:
			out = append(out, &igd.WANIPConnection1{ServiceClient: sc})
		case igd.URN_WANIPConnection_2:
			out = append(out, &igd.WANIPConnection2{ServiceClient: sc})
		case igd.URN_WANPPPConnection_1:
			out = append(out, &igd.WANPPPConnection1{ServiceClient: sc})
		}
	})
	return out
}

func (r *upnpRouter) external(ctx context.Context) (netip.Addr, error) {
	s, err := r.wan.GetExternalIPAddressCtx(ctx)
	if err != nil {
		return netip.Addr{}, errNoRouter
	}
	ip, err := netip.ParseAddr(s)
	if err != nil || !ip.Is4() || ip.IsUnspecified() {
		return netip.Addr{}, errNoRouter
	}
	return ip, nil
}

func (r *upnpRouter) open(ctx context.Context, port uint16, lease time.Duration) (uint16, error) {
	ask := func(outside uint16) error {
		add := func(seconds uint32) error {
			return r.wan.AddPortMappingCtx(ctx, "", outside, "TCP", port, r.own.String(), true, "libp2p", seconds)
		}
		err := add(uint32(lease / time.Second))
		var fault *soap.SOAPFaultError
		if errors.As(err, &fault) && fault.Detail.UPnPError.Errorcode == upnpNoLease {
			err = add(0)
		}
		return err
	}
	outside := port
	if at, ok := r.held[port]; ok {
		outside = at
	}
	for again := 0; ; again++ {
		err := ask(outside)
		if err == nil {
			r.held[port] = outside
			return outside, nil
		}
		var fault *soap.SOAPFaultError
		if !errors.As(err, &fault) || again == upnpTries {
			return 0, fmt.Errorf("forward port %s: %w", strconv.Itoa(int(port)), errNoRouter) // its text may name addresses
		}
		outside = uint16(lowPort + rand.IntN(highPort-lowPort))
	}
}

func (r *upnpRouter) close(ctx context.Context, port uint16) {
	if outside, ok := r.held[port]; ok {
		r.wan.DeletePortMappingCtx(ctx, "", outside, "TCP") // one that does not hear forgets by itself
		delete(r.held, port)
	}
}

// bounded ends answers that are too long.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = &limitedBody{io.LimitReader(resp.Body, upnpAnswer), resp.Body}
	}
	return resp, err
}

type limitedBody struct {
	io.Reader
	io.Closer
}
