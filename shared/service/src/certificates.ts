import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Server } from 'node:net';
import { createSecureContext, type Server as TlsServer } from 'node:tls';
import { type Config, readAuthorities } from '@nrdot/config';
import { causeText, durationText, type MetricsRegistry, type Transitions, WELL } from '@nrdot/telemetry';
import { type ServerTls, serverContext } from './server-tls.ts';

/**
 * How soon a renewed certificate is served. Files are polled rather than watched, because renewal swaps links of directories.
 */
const LOOK_EVERY_MS = 10_000;
/** Remaining life at which a certificate is reported; for a short-lived one, a third of its life. */
const SOON_MS = 7 * 86_400_000;
const SOON_SHARE = 1 / 3;

/** By use, which is the value of `use` in the metric. */
const WHOSE = {
  receiver: 'of the receiver',
  admin: 'of the admin address',
  dlq: 'of the dlq',
  dlq_client: 'for the dlq',
  upstream: 'for the upstream',
  redis: 'for Redis',
  telemetry: 'for telemetry.otlp',
};
type Use = keyof typeof WHOSE;

interface Pair {
  use: Use;
  certFile: string;
  keyFile: string;
  /** Certificates that clients must have been signed by. */
  clientCaFile?: string | undefined;
}

/**
 * Serves renewed certificates: new connections get what is in the files, existing ones stay. A pair that does not match, as
 * while it is being written, is ignored. The first look is at once: the files may have changed since the server read them.
 */
export function followCertificate(server: Server, tls: ServerTls, everyMs = LOOK_EVERY_MS): void {
  if (!tls.certFile || !tls.keyFile) return;
  let served = '';
  const look = () => {
    try {
      const context = serverContext(tls);
      const there = String(Object.values(context));
      if (there === served) return;
      createSecureContext(context); // throws if they do not match
      (server as TlsServer).setSecureContext(context);
      served = there;
    } catch {
      // CertificateWatch reports it if it lasts.
    }
  };
  look();
  const timer = setInterval(look, everyMs).unref();
  server.once('close', () => clearInterval(timer));
}

/**
 * Reports changes of the certificates that this process uses: renewed, unreadable, expiring, expired. The expiry of each is a
 * metric.
 */
export class CertificateWatch {
  readonly #pairs: readonly Pair[];
  readonly #transitions: Transitions;
  /** The last content that was read completely, by use. */
  readonly #seen = new Map<Use, string>();
  /** Files that were unreadable in the last check: a pair that is being written is complete in the next. */
  readonly #failed = new Set<Use>();
  readonly #now: () => number;
  readonly #timer: NodeJS.Timeout;

  /** @param services the services of this process: it does not use the certificates of others */
  constructor(
    config: Config,
    services: readonly string[],
    registry: MetricsRegistry,
    transitions: Transitions,
    { everyMs = LOOK_EVERY_MS, now = Date.now }: { everyMs?: number; now?: () => number } = {},
  ) {
    this.#now = now;
    this.#pairs = pairsOf(config, services);
    this.#transitions = transitions;
    registry.onScrape(() => {
      for (const { use, certFile } of this.#pairs) {
        const until = untilOf(certFile);
        if (until !== undefined) registry.metrics.certificateExpiry.set({ use }, until / 1000);
      }
    });
    this.#look();
    this.#timer = setInterval(() => this.#look(), everyMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    for (const pair of this.#pairs) {
      try {
        this.#tell(pair);
        this.#failed.delete(pair.use);
      } catch (error) {
        if (this.#failed.has(pair.use)) this.#tellUnreadable(pair, error);
        this.#failed.add(pair.use);
      }
    }
  }

  /** @throws if the files are unreadable or do not match */
  #tell({ use, certFile, keyFile, clientCaFile }: Pair): void {
    const [cert, key] = [readFileSync(certFile), readFileSync(keyFile)];
    createSecureContext({ cert, key });
    if (clientCaFile) readAuthorities(clientCaFile);
    const { validFrom, validTo, fingerprint256 } = new X509Certificate(cert);
    const until = Date.parse(validTo);
    const leftMs = until - this.#now();
    const soonMs = Math.min(SOON_MS, (until - Date.parse(validFrom)) * SOON_SHARE);
    const state = leftMs <= 0 ? 'expired' : leftMs < soonMs ? 'expires' : WELL;
    const subject = subjectOf(use);
    const before = this.#seen.get(use);
    this.#seen.set(use, fingerprint256);
    const name = nameOf(use, certFile);
    const day = new Date(until).toISOString().slice(0, 10);
    if (state !== this.#transitions.stateOf(subject)) {
      const message = {
        well: `${name} is valid until ${day}.`,
        expires: `${name} expires in ${durationText(leftMs / 1000)}; a renewed one is read from the same files automatically.`,
        expired: `${name} expired on ${day}: peers that verify it refuse it. Write a renewed one to the same files.`,
      }[state];
      this.#transitions.to(subject, state, { level: LEVELS[state], message });
    } else if (before !== undefined && before !== fingerprint256) {
      this.#transitions.happened(
        subject,
        `${name} was renewed: valid until ${day}. New connections use it within ${LOOK_EVERY_MS / 1000} s.`,
      );
    }
  }

  #tellUnreadable({ use, certFile, keyFile, clientCaFile }: Pair, error: unknown): void {
    const others = [keyFile, ...(clientCaFile ? [clientCaFile] : [])].join(' and ');
    const message = `${nameOf(use, certFile)} cannot be used with ${others}: ${causeText(error)}. What was read before stays in use, if there is any.`;
    this.#transitions.to(subjectOf(use), 'unreadable', { level: 'error', message });
  }
}

const LEVELS = { well: 'info', expires: 'warn', expired: 'error' } as const;

const subjectOf = (use: Use) => `certificate:${use}`;
const nameOf = (use: Use, file: string) => `The certificate ${WHOSE[use]} (${file})`;

/** The configured certificates that these services use. */
function pairsOf(
  { receiver, admin, dlq, exporter, redis, telemetry }: Config,
  services: readonly string[],
): Pair[] {
  const shown = {
    ...(services.includes('receiver') ? { receiver: receiver.tls, dlq_client: dlq } : {}),
    admin: admin.tls,
    ...(services.includes('dlq') ? { dlq: dlq.tls } : {}),
    ...(services.includes('exporter') ? { upstream: exporter.tls } : {}),
    redis: redis.tls,
    telemetry: telemetry.otlp.tls,
  };
  return Object.entries<Partial<Pair>>(shown).flatMap(([use, { certFile, keyFile, clientCaFile }]) =>
    certFile && keyFile ? [{ use: use as Use, certFile, keyFile, clientCaFile }] : [],
  );
}

/** @returns Unix ms; undefined while the file is unreadable */
function untilOf(file: string): number | undefined {
  try {
    return Date.parse(new X509Certificate(readFileSync(file)).validTo);
  } catch {
    return undefined;
  }
}
