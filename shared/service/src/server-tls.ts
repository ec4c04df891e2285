import { readFileSync } from 'node:fs';
import type { ServerOptions } from 'node:https';
import type { SecureContextOptions } from 'node:tls';

export interface ServerTls {
  /** Certificate, PEM. */
  certFile?: string | undefined;
  /** Its key, PEM. */
  keyFile?: string | undefined;
  /** With this a client must show a certificate signed by one of these. */
  clientCaFile?: string | undefined;
}

/**
 * Options that make a server speak TLS; none when there is no certificate.
 * @throws Error when a file can't be read
 */
export function secureServer(tls: ServerTls): { https?: ServerOptions } {
  if (!tls.certFile || !tls.keyFile) return {};
  return {
    https: {
      ...serverContext(tls),
      ...(tls.clientCaFile ? { requestCert: true, rejectUnauthorized: true } : {}),
    },
  };
}

/** What is in the files. @throws Error when one can't be read */
export function serverContext({ certFile, keyFile, clientCaFile }: ServerTls): SecureContextOptions {
  return {
    cert: readFileSync(certFile!),
    key: readFileSync(keyFile!),
    minVersion: 'TLSv1.2',
    ...(clientCaFile ? { ca: readFileSync(clientCaFile) } : {}),
  };
}
