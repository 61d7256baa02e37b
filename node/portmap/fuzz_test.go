package portmap

import (
	"bytes"
	"net/http"
	"net/url"
	"testing"

	"github.com/huin/goupnp"
	igd "github.com/huin/goupnp/dcps/internetgateway2"
)

// FuzzDescription: whatever a router says of itself, it is asked itself, and no
// other machine.
func FuzzDescription(f *testing.F) {
	f.Add([]byte(description))
	f.Add([]byte(`<root xmlns="urn:schemas-upnp-org:device-1-0"><URLBase>http://127.0.0.9/</URLBase><device><serviceList><service>` +
		`<serviceType>urn:schemas-upnp-org:service:WANIPConnection:2</serviceType><controlURL>http://11.1.0.1/</controlURL></service></serviceList></device></root>`))
	at := &url.URL{Scheme: "http", Host: "192.168.1.1:5000", Path: "/root.xml"}
	f.Fuzz(func(t *testing.T, b []byte) {
		root, err := readDescription(bytes.NewReader(b), at)
		if err != nil {
			return
		}
		found := connections(root, http.DefaultClient, at)
		if len(found) > upnpMost {
			t.Errorf("%d connections", len(found))
		}
		for _, c := range found {
			var s goupnp.ServiceClient
			switch c := c.(type) {
			case *igd.WANIPConnection1:
				s = c.ServiceClient
			case *igd.WANIPConnection2:
				s = c.ServiceClient
			case *igd.WANPPPConnection1:
				s = c.ServiceClient
			}
			if u := s.SOAPClient.EndpointURL; u.Hostname() != at.Hostname() {
				t.Errorf("asks another machine")
			}
		}
	})
}
