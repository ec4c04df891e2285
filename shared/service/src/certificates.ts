import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Server } from 'node:net';
import { createSecureContext, type Server as TlsServer } from 'node:tls';
import type { Config } from '@nrdot/config';
import type { Logger, MetricsRegistry } from '@nrdot/telemetry';
import { type ServerTls, serverContext } from './server-tls.ts';

/** How soon a renewed certificate is served. Files are read rather than watched: what renews them swaps links of directories. */
const LOOK_EVERY_MS = 10_000;

/**
 * Serves what is in the files from now on: new connections get the renewed certificate, those there are go on. A pair that does
 * not fit together, as while it is being written, is passed over.
 */
export function followCertificate(
  server: Server,
  tls: ServerTls,
  log: Pick<Logger, 'info' | 'warn'>,
  everyMs = LOOK_EVERY_MS,
): void {
  if (!tls.certFile || !tls.keyFile) return;
  const { certFile } = tls;
  let served = String(Object.values(serverContext(tls)));
  const timer = setInterval(() => {
    try {
      const context = serverContext(tls);
      const there = String(Object.values(context));
      if (there === served) return;
      createSecureContext(context); // throws when they do not fit
      (server as TlsServer).setSecureContext(context);
      served = there;
      log.info({ file: certFile }, 'a renewed certificate is served');
    } catch (error) {
      log.warn({ file: certFile, err: (error as Error).message }, 'a certificate cannot be read again');
    }
  }, everyMs);
  timer.unref();
  server.once('close', () => clearInterval(timer));
}

/** Puts on the metrics until when each certificate that is configured is valid. */
export function publishCertificates(config: Config, registry: MetricsRegistry): void {
  const files = {
    receiver: config.receiver.tls.certFile,
    admin: config.admin.tls.certFile,
    dlq: config.dlq.tls.certFile,
    upstream: config.exporter.tls.certFile,
    redis: config.redis.tls.certFile,
  };
  registry.onScrape(() => {
    for (const [use, file] of Object.entries(files)) {
      if (file === undefined) continue;
      const until = validUntil(file);
      if (until !== undefined) registry.metrics.certificateExpiry.set({ use }, until / 1000);
    }
  });
}

/** @returns Unix ms; undefined while the file cannot be read */
function validUntil(file: string): number | undefined {
  try {
    return Date.parse(new X509Certificate(readFileSync(file)).validTo);
  } catch {
    return undefined;
  }
}
