"""Sends with the OpenTelemetry SDK of Python, configured by its environment alone; prints what it has sent."""

import logging

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

tracers = TracerProvider()
tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
tracer = tracers.get_tracer("sender")
for i in range(300):
    with tracer.start_as_current_span(f"span {i}", attributes={"i": i, "text": "München 🚀"}) as span:
        context = span.get_span_context()
        print(f"span {context.trace_id:032x} {context.span_id:016x}")

loggers = LoggerProvider()
loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
log = logging.getLogger("sender")
log.setLevel(logging.INFO)
log.addHandler(LoggingHandler(logger_provider=loggers))
for i in range(200):
    log.info("line %d", i)
    print(f"log line {i}")

meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=60_000)])
counter = meters.get_meter("sender").create_counter("sent")
for shop in range(50):
    counter.add(shop + 1, {"shop": str(shop)})
    print(f"point sent {shop} {shop + 1}")

for provider in (tracers, loggers, meters):
    provider.shutdown()
