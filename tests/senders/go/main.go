// Sends with the OpenTelemetry SDK of Go, configured by its environment alone; prints what it has sent.
package main

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	ctx := context.Background()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithBatcher(must(otlptracehttp.New(ctx))))
	tracer := tracers.Tracer("sender")
	for i := range 300 {
		_, span := tracer.Start(ctx, fmt.Sprintf("span %d", i))
		span.SetAttributes(attribute.Int("i", i), attribute.String("text", "München 🚀"))
		span.End()
		fmt.Printf("span %s %s\n", span.SpanContext().TraceID(), span.SpanContext().SpanID())
	}

	loggers := sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(must(otlploghttp.New(ctx)))))
	logger := loggers.Logger("sender")
	for i := range 200 {
		var record log.Record
		record.SetBody(attribute.StringValue(fmt.Sprintf("line %d", i)))
		record.SetSeverity(log.SeverityInfo)
		logger.Emit(ctx, record)
		fmt.Printf("log line %d\n", i)
	}

	reader := sdkmetric.NewPeriodicReader(must(otlpmetrichttp.New(ctx)))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	counter := must(meters.Meter("sender").Int64Counter("sent"))
	for shop := range 50 {
		counter.Add(ctx, int64(shop+1), metric.WithAttributes(attribute.String("shop", fmt.Sprint(shop))))
		fmt.Printf("point sent %d %d\n", shop, shop+1)
	}

	check(tracers.Shutdown(ctx))
	check(loggers.Shutdown(ctx))
	check(meters.Shutdown(ctx))
}
