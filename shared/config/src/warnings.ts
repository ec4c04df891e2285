import type { Config } from './config.ts';
import { PIPELINE } from './options.ts';

/** The port of OTLP over gRPC; OTLP/HTTP is on 4318. */
const GRPC_PORT = '4317';

/** What is valid and mostly a mistake, in words. */
export function warningsOf({ dlq, exporter, receiver, telemetry }: Config): string[] {
  const own = telemetry.otlp.endpoint;
  const endpoints: Record<string, string | undefined> = {
    'exporter.endpoint': exporter.endpoint,
    ...Object.fromEntries(
      Object.entries(exporter.endpoints).map(([signal, url]) => [`exporter.endpoints.${signal}`, url]),
    ),
    'telemetry.otlp.endpoint': own === PIPELINE ? undefined : own,
  };
  const warnings = Object.entries(endpoints).flatMap(([option, url]) => {
    if (url === undefined || new URL(url).port !== GRPC_PORT) return [];
    return [
      `${option}: port ${GRPC_PORT} is that of gRPC; OTLP/HTTP usually uses 4318 ("nrdot check upstream" tests it)`,
    ];
  });
  if (String(receiver.listen.port) === GRPC_PORT)
    warnings.push(
      `receiver.listen: port ${GRPC_PORT} is that of gRPC, but this is OTLP/HTTP, which clients expect on 4318`,
    );
  if (dlq.tls.clientCaFile !== undefined && dlq.certFile === undefined)
    warnings.push(
      'dlq.tls.client_ca_file: without dlq.cert_file and dlq.key_file receivers have no certificate, and cannot send batches to the dlq while Redis is away',
    );
  return warnings;
}
