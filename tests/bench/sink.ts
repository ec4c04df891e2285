/**
 * The upstream of a benchmark, as a process of its own: it answers 200 at once, finds the ids of the items in what
 * arrived, and remembers when the last item of each batch did. It must cost little: it shares the machine with what
 * is measured.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { codeAt, sequenceAt } from '../testbed/src/identity.ts';
import { monotonicMs } from './clock.ts';
import { samplesIn, unsnappy } from './remote-write.ts';

/** How a generated trace id begins on the wire: its length, then `nrd`. In JSON or merged requests it is the same. */
const NEEDLE = Buffer.from([16, 0x6e, 0x72, 0x64]);
/** Between a trace id and its span id: the span id's tag and its length. Data points have them the other way round. */
const SPAN_ID_AFTER = 16 + 2;
const SPAN_ID_BEFORE = -(8 + 2);
const REMOTE_WRITE = '/api/v1/write';
/** A run has fewer batches than this, or the oldest answer is of no use anyhow. */
const MAX_BATCHES = 1 << 21;

export interface Arrivals {
  /** Items seen for the first time in their batch, more than that, requests, and body bytes as they came. */
  items: number;
  requests: number;
  wireBytes: number;
  /** Monotonic ms at which the last item of batch n arrived; 0 while some are missing. */
  completeAtMs: number[];
  /** Monotonic ms of the last arrival. */
  lastAtMs: number;
}

/** What arrived in one run. */
class Run {
  readonly #batchSize: number;
  readonly #missing: Uint32Array;
  readonly #completeAtMs: Float64Array;
  items = 0;
  requests = 0;
  wireBytes = 0;
  lastAtMs = 0;
  #highest = -1;

  constructor(batchSize: number, batches: number) {
    this.#batchSize = batchSize;
    this.#missing = new Uint32Array(batches).fill(batchSize);
    this.#completeAtMs = new Float64Array(batches);
  }

  /** Samples of remote write have no ids: they are counted. */
  takeSamples(samples: number, wireBytes: number): void {
    this.#arrived(wireBytes);
    this.items += samples;
  }

  #arrived(wireBytes: number): number {
    this.requests += 1;
    this.wireBytes += wireBytes;
    this.lastAtMs = monotonicMs();
    return this.lastAtMs;
  }

  take(body: Buffer, wireBytes: number, run: number): void {
    const now = this.#arrived(wireBytes);
    const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
    for (let at = body.indexOf(NEEDLE); at >= 0; at = body.indexOf(NEEDLE, at + 17)) {
      const traceId = at + 1;
      if (traceId + 16 > body.byteLength) break;
      if (codeAt(view, traceId) < 0 || view.getUint32(traceId + 4) !== run) continue;
      const sequence = this.#sequence(view, traceId);
      if (sequence < 0) continue;
      this.items += 1;
      const batch = Math.floor(sequence / this.#batchSize);
      if (batch >= this.#missing.length || this.#missing[batch] === 0) continue;
      this.#missing[batch]! -= 1;
      if (this.#missing[batch] === 0) this.#completeAtMs[batch] = now;
      if (batch > this.#highest) this.#highest = batch;
    }
  }

  /** The sequence, from whichever side of the trace id the span id is on; -1 for what only looks like an id. */
  #sequence(view: DataView, traceId: number): number {
    if (traceId + SPAN_ID_AFTER + 8 <= view.byteLength) {
      const after = sequenceAt(view, traceId, traceId + SPAN_ID_AFTER);
      if (after >= 0) return after;
    }
    const before = traceId + SPAN_ID_BEFORE;
    return before >= 0 ? sequenceAt(view, traceId, before) : -1;
  }

  arrivals(): Arrivals {
    const { items, requests, wireBytes, lastAtMs } = this;
    const completeAtMs = Array.from(this.#completeAtMs.subarray(0, this.#highest + 1));
    return { items, requests, wireBytes, completeAtMs, lastAtMs };
  }
}

const runs = new Map<number, Run>();
let delayMs = 0;

async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const wire = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  const url = new URL(request.url ?? '/', 'http://sink');
  const number = (name: string) => Number(url.searchParams.get(name));
  if (url.pathname === '/_bench/expect') {
    runs.clear();
    runs.set(number('run'), new Run(number('batchSize'), Math.min(MAX_BATCHES, number('batches'))));
    delayMs = number('delayMs');
    response.end();
  } else if (url.pathname === '/_bench/count') {
    response.end(String(runs.get(number('run'))?.items ?? 0));
  } else if (url.pathname === '/_bench/arrivals') {
    response.end(JSON.stringify(runs.get(number('run'))?.arrivals() ?? null));
  } else {
    const answer = () => response.setHeader('content-type', 'application/x-protobuf').end();
    if (delayMs > 0) setTimeout(answer, delayMs);
    else answer();
    const body = decoded(wire, request.headers['content-encoding']);
    if (url.pathname === REMOTE_WRITE) {
      const samples = samplesIn(body);
      for (const seen of runs.values()) seen.takeSamples(samples, wire.byteLength);
    } else for (const [run, seen] of runs) seen.take(body, wire.byteLength, run);
  }
}

function decoded(wire: Buffer, encoding: string | undefined): Buffer {
  if (encoding === 'gzip') return gunzipSync(wire);
  if (encoding === 'zstd') return zstdDecompressSync(wire);
  if (encoding === 'snappy') return unsnappy(wire);
  return wire;
}

const server = createServer((request, response) => {
  handle(request, response).catch((error: Error) => {
    process.stderr.write(`sink: ${error.message}\n`);
    response.statusCode = 500;
    response.end();
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  process.stdout.write(
    `sink on http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}\n`,
  );
});
process.once('SIGTERM', () => process.exit(0));
