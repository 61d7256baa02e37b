package relay

import (
	"testing"
	"time"
)

// TestClosedPlaceKeepsNoTimer: ten thousand links that come and go leave
// nothing until their writes' time would have been up.
func TestClosedPlaceKeepsNoTimer(t *testing.T) {
	var l Line
	p := l.Place()
	p.SetDeadline(time.Now().Add(time.Hour))
	p.Close()
	if p.limit.timer != nil {
		t.Error("the timer of a closed place runs on")
	}
}
