import { readFileSync } from 'node:fs';
import type { ServerOptions as HttpOptions } from 'node:http';
import type { ServerOptions } from 'node:https';
import type { SecureContextOptions } from 'node:tls';
import { type Config, readAuthorities } from '@nrdot/config';

export type ServerTls = Config['receiver']['tls'];

/** Time for a whole request to arrive, and for a TLS handshake, for which Node would wait for two minutes. */
const REQUEST_TIMEOUT_MS = 30_000;
const LOOK_EVERY_MAX_MS = 5_000;

export interface ServerLimits {
  requestTimeoutMs?: number | undefined;
  maxHeaderBytes?: number;
}

/**
 * Options of a Fastify server: its time limits, and HTTPS if there is a certificate. Fastify does not look at `http` then, so
 * the limits are in either.
 * @throws Error if a file is unreadable
 */
export function secureServer(
  tls: ServerTls,
  { requestTimeoutMs = REQUEST_TIMEOUT_MS, maxHeaderBytes }: ServerLimits = {},
): { requestTimeout: number; http?: HttpOptions; https?: ServerOptions } {
  const limits = {
    requestTimeout: requestTimeoutMs,
    headersTimeout: requestTimeoutMs,
    // Interval in which Node checks for requests that time out.
    connectionsCheckingInterval: Math.min(LOOK_EVERY_MAX_MS, Math.ceil(requestTimeoutMs / 2)),
    ...(maxHeaderBytes === undefined ? {} : { maxHeaderSize: maxHeaderBytes }),
  };
  if (!tls.certFile || !tls.keyFile) return { requestTimeout: requestTimeoutMs, http: limits };
  return {
    requestTimeout: requestTimeoutMs,
    https: {
      ...limits,
      ...serverContext(tls),
      handshakeTimeout: requestTimeoutMs,
      ...(tls.clientCaFile ? { requestCert: true, rejectUnauthorized: true } : {}),
    },
  };
}

/** Content of the files. @throws Error if one is unreadable, or the authorities are damaged */
export function serverContext({ certFile, keyFile, clientCaFile }: ServerTls): SecureContextOptions {
  return {
    cert: readFileSync(certFile!),
    key: readFileSync(keyFile!),
    minVersion: 'TLSv1.2',
    ...(clientCaFile ? { ca: readAuthorities(clientCaFile) } : {}),
  };
}
