package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// tracingWanted reports whether the environment asks for traces, by the standard
// variables of OpenTelemetry: an endpoint is named, and nothing turns them off.
// rowcall speaks OTLP over HTTP alone; another protocol is a fault.
func (s *settings) tracingWanted() bool {
	get := func(name string) string {
		value, _ := s.env(name)
		return strings.TrimSpace(value)
	}
	first := func(names ...string) (name, value string) {
		for _, name := range names {
			if value := get(name); value != "" {
				return name, value
			}
		}
		return "", ""
	}
	if strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	if name, exporter := first("OTEL_TRACES_EXPORTER"); exporter == "none" {
		return false
	} else if exporter != "" && exporter != "otlp" {
		s.add(fault{name, fmt.Sprintf("is %q", exporter), "write otlp, or none"})
	}
	if _, endpoint := first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"); endpoint == "" {
		return false
	}
	name, protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
	if protocol != "" && protocol != "http/protobuf" {
		s.add(fault{name, fmt.Sprintf("is %q", protocol), "write http/protobuf: rowcall sends traces in no other form"})
	}
	return true
}

// newTracing makes what sends spans to the collector that the environment names.
// The exporter and the sampler read their standard variables by themselves. What
// a collector does not take in time is dropped: deliveries never wait for it.
//
// The collector is the operator's own, so its address does not go by the guard
// of endpoints.
func newTracing(ctx context.Context, c config) (*sdktrace.TracerProvider, error) {
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("make exporter of traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(
			attribute.String("service.name", "rowcall"),
			attribute.String("service.version", buildInfo().Version),
			attribute.String("service.instance.id", c.instance),
		),
		resource.WithTelemetrySDK(),
		resource.WithFromEnv(), // beats what stands above
	)
	if err != nil {
		return nil, fmt.Errorf("describe the service for traces: %w", err)
	}
	return sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&loudExporter{SpanExporter: exporter, log: c.logger}),
		sdktrace.WithResource(about),
	), nil
}

// tracer is what spans are made with; nil where there is no provider.
func tracer(provider *sdktrace.TracerProvider) trace.Tracer {
	if provider == nil {
		return nil
	}
	return provider.Tracer("github.com/rowcall/rowcall")
}

// endTracing sends what is left of spans.
func endTracing(ctx context.Context, provider *sdktrace.TracerProvider) {
	if provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = provider.Shutdown(ctx) // its exporter has said what was wrong
}

// loudExporter says a streak of failures once, and its end.
type loudExporter struct {
	sdktrace.SpanExporter
	log     zerolog.Logger
	failing atomic.Bool
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *loudExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err == nil:
		if e.failing.Swap(false) {
			e.log.Info().Msg("traces are taken again")
		}
	case errors.Is(err, context.Canceled):
	case !e.failing.Swap(true):
		e.log.Warn().Err(err).Msg("traces cannot be sent and are dropped")
	}
	return nil
}
