package fs

import (
	"context"
	"strconv"
	"strings"

	"bazil.org/fuse"

	"wanderfs/cache/chunk"
)

const xattrPrefix = "user.wanderfs."

// noXattr says that a node lacks an attribute: ENODATA where attributes of
// the kind exist, ENOTSUP where they do not.
func noXattr(name string) error {
	if strings.HasPrefix(name, "system.") {
		return eNOTSUP
	}
	return eNODATA
}

// value of an attribute of content, by name. All of it is local.
func (t *tree) xattr(r chunk.Ref, size int64, why, name string) (string, bool) {
	if name == "ipfs.cid" {
		return r.Name(), true
	}
	key, ok := strings.CutPrefix(name, xattrPrefix)
	if !ok {
		return "", false
	}
	switch key {
	case "cid":
		return r.Name(), true
	case "size":
		return strconv.FormatInt(size, 10), true
	}
	s := t.lib.State(r)
	switch key {
	case "state":
		return s.State, s.State != ""
	case "cached":
		return strconv.Itoa(s.Cached), true
	case "sources":
		return strconv.Itoa(s.Sources), true
	case "mime":
		return s.Mime, s.Mime != ""
	case "error":
		if s.Err != "" {
			why = s.Err
		}
		return why, why != ""
	case "pin":
		if s.Pinned {
			return "1", true
		}
		return "0", true
	}
	return "", false
}

func answerXattr(value string, ok bool, name string, resp *fuse.GetxattrResponse) error {
	if !ok {
		return noXattr(name)
	}
	resp.Xattr = []byte(value)
	return nil
}

// pin reads what .pin is set to.
func pin(name string, value []byte) (on bool, err error) {
	if name != xattrPrefix+"pin" {
		return false, eROFS
	}
	switch strings.ToLower(strings.TrimSpace(string(value))) {
	case "1", "true", "yes", "on":
		return true, nil
	case "0", "false", "no", "off", "":
		return false, nil
	}
	return false, eINVAL
}

func (f *file) Getxattr(_ context.Context, req *fuse.GetxattrRequest, resp *fuse.GetxattrResponse) error {
	f.mu.Lock()
	size := f.size
	f.mu.Unlock()
	v, ok := f.t.xattr(f.ref, size, f.lastError(), req.Name)
	return answerXattr(v, ok, req.Name, resp)
}

func (f *file) Setxattr(ctx context.Context, req *fuse.SetxattrRequest) error {
	return f.t.setPin(ctx, f.ref, fuse.DT_File, req.Name, req.Xattr)
}

func (f *file) Removexattr(ctx context.Context, req *fuse.RemovexattrRequest) error {
	return f.t.setPin(ctx, f.ref, fuse.DT_File, req.Name, nil)
}

func (d *dir) Getxattr(_ context.Context, req *fuse.GetxattrRequest, resp *fuse.GetxattrResponse) error {
	v, ok := d.t.xattr(d.ref, d.total, "", req.Name)
	return answerXattr(v, ok, req.Name, resp)
}

func (d *dir) Setxattr(ctx context.Context, req *fuse.SetxattrRequest) error {
	return d.t.setPin(ctx, d.ref, fuse.DT_Dir, req.Name, req.Xattr)
}

func (d *dir) Removexattr(ctx context.Context, req *fuse.RemovexattrRequest) error {
	return d.t.setPin(ctx, d.ref, fuse.DT_Dir, req.Name, nil)
}

func (t *tree) setPin(ctx context.Context, r chunk.Ref, typ fuse.DirentType, name string, value []byte) error {
	on, err := pin(name, value)
	if err != nil {
		return err
	}
	if err := t.lib.Pin(r, on); err != nil {
		return local(err)
	}
	if on {
		t.hash.note(r, typ)
	}
	return nil
}
