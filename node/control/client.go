package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"

	"wanderfs/cache/chunk"
)

// ErrNoNode says that no node is running on a data directory. Start one.
var ErrNoNode = errors.New("no node is running there")

// maxReply bounds a JSON answer in bytes; a listing of a million names fits.
const maxReply = 512 << 20

// Client asks a running node. It is safe for concurrent use.
type Client struct{ http *http.Client }

// Dial returns a Client for the socket at path. It does not connect yet.
func Dial(path string) *Client {
	var d net.Dialer
	return &Client{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", path)
		},
		DisableCompression: true,
		ReadBufferSize:     256 << 10,
	}}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) do(ctx context.Context, method, what string, args url.Values) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+what+"?"+args.Encode(), nil)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, ErrNoNode
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL holds the query or the CID
		}
		return nil, fmt.Errorf("ask the node: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer res.Body.Close()
	var f failure
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&f); err != nil || f.Error == "" {
		return nil, fmt.Errorf("ask the node: it answered %q", res.Status)
	}
	if f.NotFound {
		return nil, ErrNotFound
	}
	return nil, errors.New(f.Error)
}

func ask[T any](ctx context.Context, c *Client, method, what string, args url.Values) (T, error) {
	var v T
	body, err := c.do(ctx, method, what, args)
	if err != nil {
		return v, err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxReply)).Decode(&v); err != nil {
		return v, fmt.Errorf("read the node's answer: %w", err)
	}
	return v, nil
}

// Status asks what the node is doing.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, http.MethodGet, "/status", nil)
}

// Search asks for what matches query. It waits for the first results, at
// most about ten seconds.
func (c *Client) Search(ctx context.Context, query string) ([]Result, error) {
	return ask[[]Result](ctx, c, http.MethodGet, "/search", url.Values{"q": {query}})
}

func refArgs(root, r chunk.Ref) url.Values {
	return url.Values{"cid": {r.Name()}, "root": {root.Name()}}
}

// Stat asks what r, reached through root, is. ErrNotFound says that nobody
// was found who has it.
func (c *Client) Stat(ctx context.Context, root, r chunk.Ref) (Entry, error) {
	return ask[Entry](ctx, c, http.MethodGet, "/stat", refArgs(root, r))
}

// List asks for what is in the folder r, reached through root.
func (c *Client) List(ctx context.Context, root, r chunk.Ref) ([]Entry, error) {
	return ask[[]Entry](ctx, c, http.MethodGet, "/list", refArgs(root, r))
}

// File opens the bytes of r from off to the end. A reader that ends early
// gives io.ErrUnexpectedEOF.
func (c *Client) File(ctx context.Context, root, r chunk.Ref, off int64) (io.ReadCloser, error) {
	args := refArgs(root, r)
	args.Set("off", strconv.FormatInt(off, 10))
	return c.do(ctx, http.MethodGet, "/file", args)
}

// ShareState asks how far the publication of a shared name is.
func (c *Client) ShareState(ctx context.Context, name string) (ShareState, error) {
	return ask[ShareState](ctx, c, http.MethodGet, "/share", url.Values{"name": {name}})
}

// Link publishes the file or folder at the absolute path in place and returns
// the name that it has in the shared folder.
func (c *Client) Link(ctx context.Context, path string) (string, error) {
	v, err := ask[map[string]string](ctx, c, http.MethodPost, "/link", url.Values{"path": {path}})
	return v["name"], err
}
