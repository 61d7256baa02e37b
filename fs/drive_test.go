package fs_test

import (
	"strings"
	"testing"

	"wanderfs/fs"
	"wanderfs/fs/fusetest"
)

func drive(t testing.TB) (*fusetest.Drive, *fusetest.Library, *fusetest.Share) {
	l, s := fusetest.NewLibrary(), fusetest.NewShare(t.TempDir())
	return fusetest.Mount(t, fs.Config{Library: l, Share: s}), l, s
}

func TestFirst(t *testing.T) {
	d, l, s := drive(t)
	f := l.File([]byte("hello\n"))
	dir := l.Folder("one", fusetest.Named("a", f), fusetest.Named("b", f))
	l.Find("two words", fusetest.Result("words two.txt", f))
	t.Log(d.Sh(t, `
ls -la $M; cat $M/hash/`+f.Ref.Name()+`; ls -laR $M/hash/`+dir.Ref.Name()+`
ls -la $M/search; ls -la "$M/search/two words"; cat "$M/search/two words/words two.txt"
ls $M/search; mkdir $M/search/jazz; ls $M/search; rmdir $M/search/jazz; ls $M/search; ls $M/hash
echo hi > $M/shared/x; cat $M/shared/x; mkdir $M/shared/d; mv $M/shared/x $M/shared/d/y; ls -lR $M/shared; rm -r $M/shared/d
ls -la $M/status; cat $M/status/peers; df $M; stat -f $M
`))
	t.Log(strings.Join(s.Events(), "\n"), l.Asked())
}
