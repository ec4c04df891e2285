/** The product's own classes, each wired to the world as its `main.ts` wires it to the machine. */
import { type Config, loadConfig } from '@nrdot/config';
import type { ContentEncoding, Signal } from '@nrdot/otlp';
import {
  type Batch,
  Enqueuer,
  type InProcess,
  InProcessHandOff,
  NotSent,
  type Preparation,
  type PriorityClass,
  Store,
  type StoreOptions,
  WakeSignal,
} from '@nrdot/queue';
import type { RedisConnection } from '@nrdot/redis';
import { AREAS, SegmentLog } from '@nrdot/segment-log';
import type { Host } from '@nrdot/service';
import type { Logger, Metrics } from '@nrdot/telemetry';
import { ENDLESS_LABEL } from '@nrdot/testbed';
import { takeDirectly } from '../../services/dlq/src/direct-intake.ts';
import { Housekeeping } from '../../services/dlq/src/housekeeping.ts';
import { Intake, type Spilled } from '../../services/dlq/src/intake.ts';
import { Ledger } from '../../services/dlq/src/ledger.ts';
import { ReplayRate } from '../../services/dlq/src/replay-rate.ts';
import { Replayer } from '../../services/dlq/src/replayer.ts';
import { Exporter } from '../../services/exporter/src/exporter.ts';
import type { Outcome } from '../../services/exporter/src/outcome.ts';
import type { Upstream } from '../../services/exporter/src/upstream.ts';
import type { Classified } from '../../services/receiver/src/classifier/classifier.ts';
import { type IngestLimits, ingest } from '../../services/receiver/src/ingest.ts';
import { Limiting } from '../../services/receiver/src/limiting.ts';
import { MergeInterval } from '../../services/receiver/src/merge-interval.ts';
import { Scheduler } from '../../services/scheduler/src/scheduler.ts';
import { options as logOptions } from '../../shared/segment-log/test/fixture.ts';
import { Broken, PREFIX } from './oracle.ts';
import { namesIn, requestOf } from './payload.ts';
import type { Life, World } from './world.ts';

const STORE: StoreOptions = {
  prefix: PREFIX,
  maxBytes: 100_000,
  maxItems: 24,
  spillAt: 0.5,
  spillHysteresis: 0.1,
  exportWindow: { batches: 4, bytes: 50_000 },
  breaker: {
    failures: 2,
    throttleRatio: 0.5,
    minAnswers: 3,
    windowMs: 10_000,
    minOpenMs: 300,
    maxOpenMs: 1_000,
  },
};
const RETRY = { initialMs: 50, maxMs: 100, multiplier: 2, jitter: 0, maxAttempts: 3, maxRetryAfterMs: 500 };
const WEIGHTS = { critical: 5, high: 3, normal: 1 };
const TICK_MS = 1_000;
const SEGMENT_BYTES = 700;

/** Takes what is called and gives back nothing: metrics and logs are not what is tested. */
const ignored: unknown = new Proxy(() => ignored, {
  get: (_, name) => (name === 'then' ? undefined : ignored),
});
const quiet = { log: ignored as Logger, metrics: ignored as Metrics };

function storeOf(world: World, life: Life, kind: 'producer' | 'consumer', inProcess?: InProcess): Store {
  const { exportWindow, ...queued } = STORE;
  const options = inProcess || world.pastScheduler ? STORE : queued;
  return new Store(world.connect(life, kind) as unknown as RedisConnection, options, inProcess);
}

/** For parties that share a process. */
export function newInProcess(): InProcess {
  return { scheduler: new WakeSignal(), exporter: new WakeSignal(), handOff: new InProcessHandOff() };
}

export interface Receiver {
  /** @throws OtlpError when it is not acknowledged */
  take(parts: { class: PriorityClass; items: string[] }[]): Promise<void>;
  /** Metrics, through the limiter. @returns points that it dropped */
  takeMetrics(body: Buffer): Promise<number>;
}

export interface Limits {
  /** Of the receiver. */
  number: number;
  /** 0: merged points leave with their request. */
  mergeIntervalMs: number;
}

const INGEST_LIMITS: IngestLimits = { maxBodyBytes: 1e6, maxDepth: 64, invalidUtf8: 'reject_item' };
const WHOLE: Classified = { class: 'normal', body: undefined };

/** Acts as soon as a metric has eight series: it gives up the label whose values never end. */
const LIMITER = {
  mode: 'enforce',
  maxKeys: 64,
  actAbove: 0,
  criticalAction: 'overflow',
  aggregateLabels: [ENDLESS_LABEL],
} as const;

const DEFAULTS = loadConfig({ env: {} }).config.limiter;

function startLimiting(world: World, store: Store, { number, mergeIntervalMs }: Limits): Limiting {
  const config = {
    limiter: { ...DEFAULTS, ...LIMITER, mergeIntervalMs },
    receiver: { listen: { port: number } },
  };
  return new Limiting(config as unknown as Config, ignored as Host, store, () => world.time.nowMs);
}

export function startReceiver(
  world: World,
  life: Life,
  storeDirectly: (batch: Batch) => Promise<void>,
  inProcess?: InProcess,
  /** When it limits metrics. */
  limits?: Limits,
): Receiver {
  const store = storeOf(world, life, 'producer', inProcess);
  const limiting = limits && startLimiting(world, store, limits);
  void limiting?.start();
  const enqueuer = new Enqueuer(
    (groups) => {
      if (!world.redisUp) throw new NotSent('lost Redis');
      return store.enqueueGroups(groups, world.time.nowMs);
    },
    Number.POSITIVE_INFINITY,
    limiting,
  );
  const limit = limiting && {
    limit: (body: Buffer, isAlone?: boolean) => limiting.limit(body, isAlone),
    limitPieces: (pieces: readonly Buffer[]) => limiting.limitPieces(pieces),
    enqueue: (request: Preparation) => enqueuer.enqueue(request),
    get busy() {
      return enqueuer.busy;
    },
  };
  const deps = (parts: Classified[]) => ({
    enqueue: (batches: readonly Batch[]) => enqueuer.enqueue(batches),
    store: storeDirectly,
    limit,
    classify: () => parts,
    now: () => world.time.nowMs,
  });
  if (limiting && limit && limits.mergeIntervalMs > 0)
    new MergeInterval(
      limiting,
      INGEST_LIMITS,
      { ...deps([WHOLE]), limit },
      { sent: () => {}, failed: () => {} },
    ).start();
  const receive = (signal: Signal, wire: Buffer, parts: Classified[]) =>
    ingest(
      {
        signal,
        wire,
        format: 'protobuf',
        encoding: 'identity',
        reservation: { reserve: () => {}, look: () => {}, release: () => {} },
      },
      INGEST_LIMITS,
      deps(parts),
    );
  return {
    take: async (parts) => {
      const body = (part: (typeof parts)[number]) => (parts.length === 1 ? undefined : requestOf(part.items));
      const classified = parts.map((part) => ({ class: part.class, body: body(part) }));
      await receive('traces', requestOf(parts.flatMap(({ items }) => items)), classified);
    },
    takeMetrics: async (body) => (await receive('metrics', body, [WHOLE])).partial?.rejected ?? 0,
  };
}

export function startScheduler(world: World, life: Life, inProcess?: InProcess): void {
  const store = storeOf(world, life, 'consumer', inProcess);
  new Scheduler(
    {
      weights: WEIGHTS,
      windowBatches: 4,
      windowBytes: 50_000,
      mergeBytes: 300,
      maxPicks: 8,
      slotMs: 500,
      pollMs: 1_000,
    },
    {
      store,
      wakeSignal: inProcess?.scheduler ?? wakeSignalOf(world, life, store.keys.wake),
      now: () => world.time.nowMs,
      ...quiet,
    },
  );
}

/** How the upstream answers; `undefined` when whoever asked is gone. */
type Answering = (life: Life, signal: string, body: Buffer) => Promise<Outcome>;

export function startExporter(world: World, life: Life, answer: Answering, inProcess?: InProcess): void {
  const store = storeOf(world, life, 'consumer', inProcess);
  const upstream = {
    send: (signal: string, body: Buffer | Buffer[], _encoding: ContentEncoding) =>
      answer(life, signal, Array.isArray(body) ? Buffer.concat(body) : body),
    close: async () => {},
  };
  new Exporter(
    {
      minConcurrency: 1,
      concurrency: 2,
      inflightBytes: 10_000,
      compression: 'as-received',
      retry: RETRY,
      maxBodyBytes: 1e6,
    },
    {
      store,
      wakeSignal:
        inProcess?.exporter ?? (wakeSignalOf(world, life, store.keys.queue('export', 'marker')) as never),
      handOff: inProcess?.handOff,
      upstream: upstream as unknown as Upstream,
      now: () => world.time.nowMs,
      random: () => 0.5,
      ...quiet,
    },
  );
}

export interface Dlq {
  segments: SegmentLog;
  takeDirectly(batch: Batch): Promise<void>;
  replayRejected(): Promise<void>;
  purge(): Promise<unknown>;
}

/** @param onAppend told what is about to go to the disk */
export async function startDlq(
  world: World,
  life: Life,
  onAppend: (items: string[]) => void,
  inProcess?: InProcess,
): Promise<Dlq> {
  const store = storeOf(world, life, 'consumer', inProcess);
  const fs = world.fileSystem(life);
  await fs.mkdir('/dlq');
  const ledger = await Ledger.open('/dlq', fs);
  const segments = await SegmentLog.open({
    ...logOptions(world.disk).o,
    fs,
    segmentBytes: SEGMENT_BYTES,
    now: () => world.time.nowMs,
    events: {
      corrupted: ({ file, reason }) => {
        if (life.alive) world.fail(new Broken(`${file} is damaged: ${reason}`));
      },
      unreadable: () => {},
      ballast: () => {},
      dropped: () => {},
      writtenOff: (area, totals) => void ledger.writtenOff(area, totals).catch(() => {}),
      fault: () => {},
    },
  });
  const append = segments.append.bind(segments);
  segments.append = (area, record) => {
    onAppend(namesIn(Buffer.from(record.payload)));
    return append(area, record);
  };
  await ledger.conclude(segments.lastIds);
  let housekeeping: Housekeeping | undefined;
  const changed = () => housekeeping?.changed();
  const intake = new Intake({
    store,
    concurrency: 2,
    segments,
    unsettled: ledger.unsettled,
    maxBodyBytes: 1e6,
    maxInflightBytes: 1e6,
    changed,
    wakeSignal: wakeSignalOf(world, life, store.keys.queue('spill', 'marker')) as never,
    ...quiet,
  });
  const replayer = new Replayer({
    store,
    segments,
    rate: new ReplayRate(1e6, world.time.nowMs),
    weights: WEIGHTS,
    poisonAfter: 5,
    changed,
    now: () => world.time.nowMs,
    ...quiet,
  });
  const keeping = new Housekeeping({
    store,
    segments,
    ledger,
    replayer,
    intake,
    notReady: () => (world.redisUp ? undefined : 'lost Redis'),
  });
  housekeeping = keeping;
  const ticking = new Set<Promise<void>>();
  setInterval(() => {
    if (ticking.size > 0) return;
    const turn = keeping.turn().catch(() => {});
    ticking.add(turn);
    void turn.then(() => ticking.delete(turn));
  }, TICK_MS);
  return {
    segments,
    takeDirectly: (batch) => {
      const { id, signal, class: priorityClass, items, encoding, receivedAt, payload } = batch;
      const spilled: Spilled = {
        id,
        signal,
        class: priorityClass,
        items,
        encoding,
        receivedAt,
        reason: 'redis_away',
        payload: Buffer.from(payload),
      };
      return takeDirectly(spilled, intake, ledger, quiet.log);
    },
    purge: () => replayer.purge(AREAS),
    replayRejected: () =>
      replayer.replay({ areas: ['rejected'], class: undefined, since: 0, until: Number.MAX_SAFE_INTEGER }),
  };
}

function wakeSignalOf(world: World, life: Life, key: string) {
  return { wait: (ms: number) => world.sleep(life, key, ms), notify: () => {}, close: () => {} };
}
