package main

import (
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// parse makes the logger that everything narrows down from.
func (f *logFlags) parse(s *settings, w *os.File) zerolog.Logger {
	level, err := zerolog.ParseLevel(s.oneOf("log_level", f.LogLevel, "debug", "info", "warn", "error"))
	if err != nil {
		level = zerolog.InfoLevel
	}
	format := f.LogFormat
	if format == "" {
		format = "json"
		if isTerminal(w) {
			format = "console"
		}
	}
	return newLogger(w, level, s.oneOf("log_format", format, "json", "console"))
}

// newLogger writes one line an entry, with the time in UTC to the millisecond.
func newLogger(w io.Writer, level zerolog.Level, format string) zerolog.Logger {
	layout := "2006-01-02T15:04:05.000Z07:00"
	if format == "console" {
		layout = time.TimeOnly + ".000"
		w = zerolog.ConsoleWriter{Out: w, NoColor: os.Getenv("NO_COLOR") != "", FormatTimestamp: asIs}
	}
	stamp := zerolog.HookFunc(func(e *zerolog.Event, _ zerolog.Level, _ string) {
		now := time.Now()
		if format == "json" {
			now = now.UTC()
		}
		e.Str(zerolog.TimestampFieldName, now.Format(layout))
	})
	return zerolog.New(w).Level(level).Hook(stamp)
}

func asIs(v any) string {
	s, _ := v.(string)
	return s
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}
