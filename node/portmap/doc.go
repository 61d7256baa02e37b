// Package portmap asks the router of a home for ports that it forwards to this
// machine, by NAT-PMP (RFC 6886) and by UPnP (Internet Gateway Device 1 and 2).
//
// libp2p has the same, but looks for a router once, when it starts; never asks
// by NAT-PMP on Linux, because the library that it takes the router's address
// from refuses its question; and has goroutines that outlive it by ten seconds.
//
// What a router says is bounded, and only one in this machine's own network is
// believed. Errors name no address.
package portmap
