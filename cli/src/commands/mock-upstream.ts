import { parseDuration, parseSize } from '@nrdot/config';
import { startMockUpstream } from '@nrdot/testbed';

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
  refuseEncoding?: string;
}

/** `nrdot mock-upstream`: runs until it is stopped, and prints what arrives. */
export async function mockUpstreamCommand(flags: MockFlags): Promise<void> {
  const latencyMs = flags.latency === undefined ? 0 : parseDuration(flags.latency);
  if (latencyMs === undefined)
    throw new Error(`--latency ${flags.latency}: expected a duration such as 50ms`);
  const maxBodyBytes = sizeOf('--max-body', flags.maxBody);
  const bytesPerSecond = sizeOf('--link-rate', flags.linkRate);
  const mock = await startMockUpstream({
    listen: flags.listen,
    behaviour: {
      latencyMs,
      errorRate: flags.errorRate ?? 0,
      throttleRate: flags.throttleRate ?? 0,
      retryAfterSeconds: flags.retryAfter ?? 0,
      refuseRate: flags.refuseRate ?? 0,
      outage: flags.outage ?? false,
      firstMemberOnly: flags.firstMemberOnly ?? false,
      refuseEncoding: flags.refuseEncoding ?? '',
      ...(maxBodyBytes === undefined ? {} : { maxBodyBytes }),
      ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
    },
  });
  process.stdout.write(`mock upstream on ${mock.url}; what arrived: ${mock.url}/_mock/stats\n`);
  let before = 0;
  const ticker = setInterval(() => {
    const { items, requests, duplicates } = mock.stats();
    if (items === before) return;
    process.stdout.write(
      `${items} items (+${items - before}) in ${requests} requests, ${duplicates} twice\n`,
    );
    before = items;
  }, 1_000);
  const stop = () => {
    clearInterval(ticker);
    const { items, duplicates, corrupted } = mock.stats();
    process.stdout.write(`received ${items} items, ${duplicates} twice, ${corrupted} damaged\n`);
    void mock.close();
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
}

function sizeOf(flag: string, given: string | undefined): number | undefined {
  if (given === undefined) return undefined;
  const bytes = parseSize(given);
  if (bytes === undefined) throw new Error(`${flag} ${given}: expected a size such as 1MB`);
  return bytes;
}
