// Package view is what a node knows of the network: descriptors of relays, who
// vouched for each, and how they did. It asks nobody, and reads and writes
// nothing: node tells it what peers said and what worked, and asks it whom to
// use.
//
// Where to look: view (what is asked of it), learn (what peers tell), versions
// (one descriptor of each relay for all builders), health (how a relay did),
// doubts (is it them, or is this node cut off?), field (as the choice of relays
// sees them), policy (which addresses exist), file (as bytes).
package view
