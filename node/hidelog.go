package node

import (
	"context"
	"io"
	stdlog "log"
	"log/slog"
	"sync"

	golog "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/gologshim"
)

// hidingHandler passes on that a library logged something, and which part of
// it, and nothing else: libp2p's messages and attributes hold peers and
// addresses. Whatever the library's level, it arrives as debug.
type hidingHandler struct {
	to   slog.Handler
	part string
}

// Enabled implements slog.Handler.
func (h hidingHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.to.Enabled(ctx, slog.LevelDebug)
}

// Handle implements slog.Handler.
func (h hidingHandler) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, slog.LevelDebug, "transport", 0)
	out.AddAttrs(slog.String("part", h.part), slog.String("level", r.Level.String()))
	return h.to.Handle(ctx, out)
}

// WithAttrs implements slog.Handler. Only the library's part is kept.
func (h hidingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "logger" {
			h.part = a.Value.String()
		}
	}
	return h
}

// WithGroup implements slog.Handler.
func (h hidingHandler) WithGroup(string) slog.Handler { return h }

var hideOnce sync.Once

// hideLibraryLogs makes the libraries' process-wide loggers write to log
// through a hidingHandler. The first node of a process decides.
func hideLibraryLogs(log *slog.Logger) {
	hideOnce.Do(func() {
		gologshim.SetDefaultHandler(hidingHandler{to: log.Handler()})
		golog.SetupLogging(golog.Config{Level: golog.LevelFatal}) // kad-dht: to nowhere
		stdlog.SetOutput(io.Discard)                              // UPnP and mDNS, with addresses
	})
}
