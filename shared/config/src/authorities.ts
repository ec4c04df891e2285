import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** A certificate, or the beginning of one. */
const CERTIFICATE = /-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----[^-]*(?:-----END \1-----)?/g;

/**
 * Reads a file of certificates to trust. OpenSSL ignores what is none, and then trusts nobody: a file that is empty, or not
 * completely written, would lock everybody out.
 * @returns its content, PEM
 * @throws Error if it is unreadable, has no certificate, or has one that is damaged
 */
export function readAuthorities(file: string): Buffer {
  const content = readFileSync(file);
  const certificates = content.toString('latin1').match(CERTIFICATE) ?? [];
  if (certificates.length === 0) throw new Error('it has no certificate (PEM)');
  for (const [i, certificate] of certificates.entries()) {
    try {
      new X509Certificate(certificate);
    } catch {
      throw new Error(`certificate ${i + 1} in it is damaged or incomplete`);
    }
  }
  return content;
}
