import { readFileSync } from 'node:fs';
import type { ServerOptions } from 'node:https';

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
export function secureServer({ certFile, keyFile, clientCaFile }: ServerTls): { https?: ServerOptions } {
  if (!certFile || !keyFile) return {};
  return {
    https: {
      cert: readFileSync(certFile),
      key: readFileSync(keyFile),
      minVersion: 'TLSv1.2',
      ...(clientCaFile
        ? { ca: readFileSync(clientCaFile), requestCert: true, rejectUnauthorized: true }
        : {}),
    },
  };
}
