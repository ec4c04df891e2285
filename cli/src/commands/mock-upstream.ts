import { parseDuration, parseSize } from '@nrdot/config';
import { SIGNALS } from '@nrdot/otlp';
import { type Behaviour, startMockUpstream } from '@nrdot/testbed';
import { given, parsed } from '../flag-values.ts';
import { printLine } from '../output.ts';

/** Behaviours with a flag of the same name and value. */
type Same =
  | ('errorRate' | 'throttleRate' | 'refuseRate' | 'status' | 'html' | 'poison' | 'poisonStatus')
  | ('outage' | 'firstMemberOnly' | 'refuseEncoding' | 'requestsPerMinute');

export interface MockFlags extends Partial<Pick<Behaviour, Same>> {
  listen: string;
  latency?: string;
  retryAfter?: number;
  maxBody?: string;
  linkRate?: string;
  newrelic?: boolean;
  signalStatus?: string[];
  signalLatency?: string[];
  redirect?: number;
  redirectTo?: string;
  json?: boolean;
}

/** `nrdot mock-upstream`: runs until it is stopped, and prints what arrives. */
export async function mockUpstreamCommand(flags: MockFlags): Promise<void> {
  const mock = await startMockUpstream({ listen: flags.listen, behaviour: behaviourOf(flags) });
  const say = printLine.bind(undefined, flags);
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
  const { listen, json, latency, retryAfter, maxBody, linkRate, newrelic, ...others } = flags;
  const { signalStatus, signalLatency, redirect, redirectTo, ...same } = others;
  if ((redirect === undefined) !== (redirectTo === undefined))
    throw new Error('--redirect and --redirect-to require each other: the status, and the target');
  if (redirectTo !== undefined && !/^https?:$/.test(URL.parse(redirectTo)?.protocol ?? ''))
    throw new Error(`--redirect-to ${redirectTo}: expected an http or https URL`);
  const status = (text: string) => (/^[2-5]\d\d$/.test(text) ? Number(text) : undefined);
  const time = 'a duration such as 50ms';
  return given({
    ...same,
    latencyMs: parsed('--latency', latency, parseDuration, time),
    retryAfterSeconds: retryAfter,
    newRelic: newrelic,
    signalStatus: bySignal('--signal-status', signalStatus, status, 'a status from 200 to 599'),
    signalLatencyMs: bySignal('--signal-latency', signalLatency, parseDuration, time),
    redirectStatus: redirect,
    redirectTo: redirectTo?.replace(/\/$/, ''),
    maxBodyBytes: parsed('--max-body', maxBody, parseSize, 'a size such as 1MB'),
    bytesPerSecond: parsed('--link-rate', linkRate, parseSize, 'a size such as 1MB'),
  });
}

/** Formats `logs=403` for each signal that has a value. */
function bySignal(
  flag: string,
  texts: readonly string[] = [],
  parse: (text: string) => number | undefined,
  expected: string,
): Record<string, number> {
  return Object.fromEntries(
    texts.map((text) => {
      const [signal = '', value] = text.split('=', 2);
      const number = value === undefined ? undefined : parse(value);
      if (!Object.hasOwn(SIGNALS, signal) || number === undefined)
        throw new Error(
          `${flag} ${text}: expected one of ${Object.keys(SIGNALS).join(', ')}, "=" and ${expected}`,
        );
      return [signal, number];
    }),
  );
}
