/**
 * What the check of the backend's rules costs: CPU of one batch that is looked at, decompressed and read, and what that is of a core at
 * 10,000 spans/s: `node services/receiver/bench/check.bench.ts`
 */
import { gzipSync } from 'node:zlib';
import { decodeContent } from '@nrdot/otlp';
import { BatchMaker, workload } from '@nrdot/testbed';
import { CheckCounts } from '../src/check/check-report.ts';
import { RequestCheck } from '../src/check/request-check.ts';

const SPANS = 500;
const PER_SECOND = 10_000;
const ROUNDS = 400;
const w = workload({ endpoint: 'http://nowhere', encoding: 'identity', seed: 1, signals: { traces: 1 } });
const body = gzipSync(new BatchMaker(w, 1).make(SPANS, Date.now()).body);
const check = new RequestCheck(new CheckCounts());

async function cpuMs(rounds: number): Promise<number> {
  const before = process.cpuUsage();
  for (let round = 0; round < rounds; round++)
    check.request('traces', await decodeContent(body, 'gzip', { maxBytes: 4 * 1024 * 1024 }), Date.now());
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000 / rounds;
}

await cpuMs(ROUNDS); // compiled
const ms = await cpuMs(ROUNDS);
const share = (sample: number) => `${((ms * PER_SECOND * sample) / SPANS / 10).toFixed(2)} %`;
console.log(`${ms.toFixed(3)} ms for ${SPANS} spans, ${body.byteLength} bytes as gzip`);
console.log(`of a core at ${PER_SECOND} spans/s: ${share(0.02)} with check.sample 0.02, ${share(1)} with 1`);
