import type { Config } from './config.ts';

/** The port of OTLP over gRPC; OTLP/HTTP is on 4318. */
const GRPC_PORT = '4317';

/** What is valid and mostly a mistake, in words. */
export function warningsOf({ dlq, exporter, receiver }: Config): string[] {
  const endpoints = { endpoint: exporter.endpoint, ...exporter.endpoints };
  const warnings = Object.entries(endpoints).flatMap(([name, url]) => {
    if (url === undefined || new URL(url).port !== GRPC_PORT) return [];
    const option = name === 'endpoint' ? 'exporter.endpoint' : `exporter.endpoints.${name}`;
    return [
      `${option}: port ${GRPC_PORT} is that of gRPC; OTLP/HTTP is mostly on 4318 ("nrdot check upstream" tries it)`,
    ];
  });
  if (String(receiver.listen.port) === GRPC_PORT)
    warnings.push(
      `receiver.listen: port ${GRPC_PORT} is that of gRPC, and this is OTLP/HTTP, which clients look for on 4318`,
    );
  if (dlq.tls.clientCaFile !== undefined && dlq.certFile === undefined)
    warnings.push(
      'dlq.tls.client_ca_file: receivers show no certificate without dlq.cert_file and dlq.key_file, and can hand in nothing while Redis is away',
    );
  return warnings;
}
