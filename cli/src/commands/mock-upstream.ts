import { parseDuration, parseSize } from '@nrdot/config';
import { SIGNALS } from '@nrdot/otlp';
import { type Behaviour, startMockUpstream } from '@nrdot/testbed';

export interface MockFlags {
  listen: string;
  latency?: string;
  errorRate?: number;
  throttleRate?: number;
  retryAfter?: number;
  refuseRate?: number;
  outage?: boolean;
  maxBody?: string;
  linkRate?: string;
  firstMemberOnly?: boolean;
  newrelic?: boolean;
  requestsPerMinute?: number;
  refuseEncoding?: string;
  status?: number;
  signalStatus?: string[];
  signalLatency?: string[];
  html?: boolean;
  redirect?: number;
  redirectTo?: string;
  poison?: string;
  poisonStatus?: number;
  json?: boolean;
}

/** `nrdot mock-upstream`: runs until it is stopped, and prints what arrives. */
export async function mockUpstreamCommand(flags: MockFlags): Promise<void> {
  const mock = await startMockUpstream({ listen: flags.listen, behaviour: behaviourOf(flags) });
  const say = (value: object, text: string) =>
    void process.stdout.write(`${flags.json ? JSON.stringify(value) : text}\n`);
  const stats = `${mock.url}/_mock/stats`;
  say({ url: mock.url, stats }, `mock upstream on ${mock.url}; statistics: ${stats}`);
  let before = 0;
  const ticker = setInterval(() => {
    const { items, requests, duplicates } = mock.stats();
    if (items === before) return;
    say(
      { items, newItems: items - before, requests, duplicates },
      `${items} items (+${items - before}) in ${requests} requests, ${duplicates} twice`,
    );
    before = items;
  }, 1_000);
  const stop = () => {
    clearInterval(ticker);
    const { items, requests, duplicates, corrupted, newRelic } = mock.stats();
    const rules = Object.entries(newRelic).map(([rule, count]) => `, ${count} by ${rule}`);
    say(
      { ended: true, items, requests, duplicates, corrupted, ...(flags.newrelic ? { newRelic } : {}) },
      `received ${items} items, ${duplicates} twice, ${corrupted} damaged${rules.join('')}`,
    );
    void mock.close();
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
}

/** @throws Error that names the flag and what was expected */
export function behaviourOf(flags: MockFlags): Partial<Behaviour> {
  const { redirect, redirectTo } = flags;
  if ((redirect === undefined) !== (redirectTo === undefined))
    throw new Error('--redirect and --redirect-to require each other: the status, and the target');
  if (redirectTo !== undefined && !/^https?:$/.test(URL.parse(redirectTo)?.protocol ?? ''))
    throw new Error(`--redirect-to ${redirectTo}: expected an http or https URL`);
  const maxBodyBytes = sizeOf('--max-body', flags.maxBody);
  const bytesPerSecond = sizeOf('--link-rate', flags.linkRate);
  const status = (text: string) => (/^[2-5]\d\d$/.test(text) ? Number(text) : undefined);
  return {
    latencyMs: flags.latency === undefined ? 0 : durationOf('--latency', flags.latency),
    errorRate: flags.errorRate ?? 0,
    throttleRate: flags.throttleRate ?? 0,
    retryAfterSeconds: flags.retryAfter ?? 0,
    refuseRate: flags.refuseRate ?? 0,
    outage: flags.outage ?? false,
    firstMemberOnly: flags.firstMemberOnly ?? false,
    newRelic: flags.newrelic ?? false,
    requestsPerMinute: flags.requestsPerMinute ?? 0,
    refuseEncoding: flags.refuseEncoding ?? '',
    status: flags.status ?? 0,
    signalStatus: bySignal('--signal-status', flags.signalStatus, status, 'a status from 200 to 599'),
    signalLatencyMs: bySignal(
      '--signal-latency',
      flags.signalLatency,
      parseDuration,
      'a duration such as 50ms',
    ),
    html: flags.html ?? false,
    redirectStatus: redirect ?? 0,
    redirectTo: redirectTo?.replace(/\/$/, '') ?? '',
    poison: flags.poison ?? '',
    ...(flags.poisonStatus === undefined ? {} : { poisonStatus: flags.poisonStatus }),
    ...(maxBodyBytes === undefined ? {} : { maxBodyBytes }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
  };
}

/** Formats `logs=403` for each signal that has a value. */
function bySignal(
  flag: string,
  given: readonly string[] = [],
  parse: (text: string) => number | undefined,
  expected: string,
): Record<string, number> {
  return Object.fromEntries(
    given.map((text) => {
      const [signal = '', value] = text.split('=', 2);
      const parsed = value === undefined ? undefined : parse(value);
      if (!Object.hasOwn(SIGNALS, signal) || parsed === undefined)
        throw new Error(
          `${flag} ${text}: expected one of ${Object.keys(SIGNALS).join(', ')}, "=" and ${expected}`,
        );
      return [signal, parsed];
    }),
  );
}

function durationOf(flag: string, given: string): number {
  const ms = parseDuration(given);
  if (ms === undefined) throw new Error(`${flag} ${given}: expected a duration such as 50ms`);
  return ms;
}

function sizeOf(flag: string, given: string | undefined): number | undefined {
  if (given === undefined) return undefined;
  const bytes = parseSize(given);
  if (bytes === undefined) throw new Error(`${flag} ${given}: expected a size such as 1MB`);
  return bytes;
}
