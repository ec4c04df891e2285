/**
 * What the check of the backend's rules costs: CPU of one batch that is looked at, decompressed and read, and what that is of a core at
 * 10,000 spans/s; and what `check.fix` costs, of a batch that needs none and of one whose every span does: `node services/receiver/bench/check.bench.ts`
 */
import { gzipSync } from 'node:zlib';
import { decodeContent } from '@nrdot/otlp';
import { BatchMaker, encodeProtobuf, workload } from '@nrdot/testbed';
import { CheckCounts } from '../src/check/check-report.ts';
import { RequestCheck } from '../src/check/request-check.ts';
import { RequestFix } from '../src/check/request-fix.ts';

const SPANS = 500;
const PER_SECOND = 10_000;
const ROUNDS = 400;
const w = workload({ endpoint: 'http://nowhere', encoding: 'identity', seed: 1, signals: { traces: 1 } });
const body = gzipSync(new BatchMaker(w, 1).make(SPANS, Date.now()).body);
const check = new RequestCheck(new CheckCounts());

async function cpuMs(rounds: number, once: () => void | Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  for (let round = 0; round < rounds; round++) await once();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000 / rounds;
}

/** Once compiled. */
async function measured(once: () => void | Promise<void>): Promise<number> {
  await cpuMs(ROUNDS, once);
  return cpuMs(ROUNDS, once);
}

const share = (ms: number, sample = 1) => `${((ms * PER_SECOND * sample) / SPANS / 10).toFixed(2)} %`;
const looked = await measured(async () =>
  check.request('traces', await decodeContent(body, 'gzip', { maxBytes: 4 * 1024 * 1024 }), Date.now()),
);
console.log(`${looked.toFixed(3)} ms for ${SPANS} spans, ${body.byteLength} bytes as gzip`);
console.log(
  `of a core at ${PER_SECOND} spans/s: ${share(looked, 0.02)} with check.sample 0.02, ${share(looked)} with 1`,
);

const fix = new RequestFix();
const clean = Buffer.from(await decodeContent(body, 'gzip', { maxBytes: 4 * 1024 * 1024 }));
const attributes = [{ key: 'http.url', value: { stringValue: 'v'.repeat(5_000) } }];
const spans = Array.from({ length: SPANS }, () => ({ name: 'GET', attributes }));
const long = Buffer.from(encodeProtobuf('traces', { resourceSpans: [{ scopeSpans: [{ spans }] }] }).bytes);
for (const [what, request] of [
  ['that needs none', clean],
  ['whose every span has a text that is cut', long],
] as const) {
  const ms = await measured(() => void fix.fix('traces', request));
  console.log(`check.fix of ${SPANS} spans ${what}: ${ms.toFixed(3)} ms; ${share(ms)} of a core`);
}
