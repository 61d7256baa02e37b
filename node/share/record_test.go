package share

import (
	"bytes"
	"testing"

	"wanderfs/cache/chunk"
)

func FuzzRecord(f *testing.F) {
	n := &node{kind: chunk.File, group: 3, racy: true, stat: stat{1, 2, 3, -4, 5}, sum: [2]uint64{6, 7}}
	n.entry = chunk.Entry{Ref: chunk.Raw([]byte("x")), Size: 1, Total: 9, Target: "t"}
	f.Add(n.record())
	f.Add((&node{group: -1}).record())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var n node
		if n.parse(b) != nil {
			return
		}
		var again node
		if err := again.parse(n.record()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.record(), n.record()) {
			t.Error("a row changes when it is written again")
		}
	})
}
