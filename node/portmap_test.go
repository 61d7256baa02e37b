package node

import "testing"

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
