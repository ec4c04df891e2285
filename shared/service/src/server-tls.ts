import { readFileSync } from 'node:fs';
import type { ServerOptions } from 'node:https';
import type { SecureContextOptions } from 'node:tls';

export interface ServerTls {
  /** Certificate, PEM. */
  certFile?: string | undefined;
  /** Its key, PEM. */
  keyFile?: string | undefined;
  /** If set, clients must present a certificate signed by one of these. */
  clientCaFile?: string | undefined;
}

/** As long as a request may take by default; Node would wait for two minutes. */
const HANDSHAKE_TIMEOUT_MS = 30_000;

/**
 * Options for a TLS server; empty if there is no certificate.
 * @param handshakeTimeoutMs after which a connection is closed that is not secure yet
 * @throws Error if a file is unreadable
 */
export function secureServer(
  tls: ServerTls,
  handshakeTimeoutMs = HANDSHAKE_TIMEOUT_MS,
): { https?: ServerOptions } {
  if (!tls.certFile || !tls.keyFile) return {};
  return {
    https: {
      ...serverContext(tls),
      handshakeTimeout: handshakeTimeoutMs,
      ...(tls.clientCaFile ? { requestCert: true, rejectUnauthorized: true } : {}),
    },
  };
}

/** Content of the files. @throws Error if one is unreadable */
export function serverContext({ certFile, keyFile, clientCaFile }: ServerTls): SecureContextOptions {
  return {
    cert: readFileSync(certFile!),
    key: readFileSync(keyFile!),
    minVersion: 'TLSv1.2',
    ...(clientCaFile ? { ca: readFileSync(clientCaFile) } : {}),
  };
}
