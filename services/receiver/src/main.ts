import { setTimeout as wait } from 'node:timers/promises';
import type { Config, Secret } from '@nrdot/config';
import type { Signal } from '@nrdot/otlp';
import { type Batch, Enqueuer, type Group, NotSent } from '@nrdot/queue';
import {
  type Address,
  FollowingClock,
  formatAddress,
  type Host,
  hostFor,
  openStore,
  type RunningService,
  steadyNow,
} from '@nrdot/service';
import { problemOf } from '@nrdot/status';
import { countOf, countsBy } from '@nrdot/telemetry';
import { LiveCheck } from './check/live-check.ts';
import { LiveFix } from './check/live-fix.ts';
import { publishCheck } from './check/publish.ts';
import { Classifier } from './classifier/classifier.ts';
import { DlqClient } from './dlq-client.ts';
import type { IngestDeps, MetricsLimit } from './ingest.ts';
import { LargeRequests } from './large-request.ts';
import { Limiting } from './limiting.ts';
import { MergeInterval } from './merge-interval.ts';
import { Receiver } from './server.ts';
import { addTapRoute, Tap } from './tap/tap.ts';

const REDIS_PATIENCE_MS = 2_000;
const RELEASE_MS = 1_000;

/**
 * Starts the receiver of this process. It listens at once. Until Redis is reachable, batches go to the dlq; if that is
 * unreachable too, clients get 503.
 * @param dlqUrl base URL of the dlq's intake, if there is one
 */
export async function startReceiver(
  config: Config,
  processHost: Host,
  dlqUrl = config.dlq.url,
): Promise<RunningService & { address: Address }> {
  const host = hostFor(processHost, 'receiver');
  const dlq = dlqUrl
    ? new DlqClient(dlqUrl, { ...config.dlq, token: config.dlq.token?.reveal() })
    : undefined;
  const meanwhile = dlq ? 'batches go to the dlq' : 'clients get 503';
  const { link, store, notReady } = openStore(config, host, 'producer', 'receiver', meanwhile);
  const limiting =
    config.limiter.mode === 'off'
      ? undefined
      : new Limiting(config, host, store, steadyNow, new FollowingClock().now);
  const commit = async (groups: readonly Group[]) => {
    const reason = link.notReady();
    if (reason) throw new NotSent(reason);
    const results = await store.enqueueGroups(groups, Date.now());
    // Batches need not wait for the scheduler: the same step may move them.
    const [result] = results[0]?.results ?? [];
    if (result === 'taken' || result === 'moved') {
      const { class: priorityClass, items } = groups[0]!.batches[0]!;
      host.metrics.apqMovedItems.inc({ class: priorityClass }, items);
    }
    return results;
  };
  const enqueuer = new Enqueuer(commit, config.redis.commandTimeoutMs, limiting);
  let classifier = new Classifier(config.priority);
  const large = new LargeRequests();
  const tap = new Tap();
  addTapRoute(host.admin, tap);
  const check = new LiveCheck(config.check.sample);
  publishCheck(check, host);
  const fix = new LiveFix(config.check.fix, host);
  const options = {
    ...config.receiver,
    tokens: revealed(config.receiver.tokens),
    queue: { bytes: config.queue.maxBytes, items: config.queue.maxItems },
  };
  const limit: MetricsLimit | undefined = limiting && {
    limit: (body, isAlone) => limiting.limit(body, isAlone),
    limitPieces: (pieces) => limiting.limitPieces(pieces),
    enqueue: (request) => enqueuer.enqueue(request),
    get busy() {
      return enqueuer.busy;
    },
  };
  const deps = {
    store: dlq && ((batch: Batch) => dlq.store(batch)),
    enqueue: (batches: readonly Batch[]) => enqueuer.enqueue(batches),
    limit,
    classify: (signal: Signal, body: Buffer) => classifier.classify(signal, body),
    rules: () => classifier,
    large,
    tap,
    check,
    fix,
    now: Date.now,
  } satisfies IngestDeps;
  const mergeInterval =
    limiting &&
    limit &&
    new MergeInterval(
      limiting,
      options,
      { ...deps, limit },
      {
        sent: (points) => host.metrics.receiverItems.inc({ signal: 'metrics' }, points),
        failed: (err) => host.log.debug({ err: err.message }, 'could not send merged points yet'),
      },
    );
  const server = new Receiver(options, { log: host.log, metrics: host.metrics, ...deps });
  host.live.follow((next) => {
    const nextClassifier = new Classifier(next.priority);
    return () => {
      classifier = nextClassifier;
      server.setTokens(revealed(next.receiver.tokens));
    };
  });
  host.status.add(
    'receiver',
    async () => {
      const { receiverRequests, receiverRefused, receiverItems } = host.metrics;
      const refused = await countsBy(receiverRefused, 'reason');
      return {
        ...problemOf({ notReady }),
        requests: await countOf(receiverRequests),
        refusedRequests: Object.values(refused).reduce((sum, requests) => sum + requests, 0),
        items: await countOf(receiverItems),
        refused,
        ...(limiting ? { limiter: limiting.status() } : {}),
        ...(check.sample > 0 ? { check: check.status() } : {}),
      };
    },
    { store, link },
  );
  // A running Redis answers within this time: without the wait, the first batches would go to the dlq.
  await Promise.race([link.untilReady(), wait(REDIS_PATIENCE_MS)]);
  await limiting?.start();
  mergeInterval?.start();
  const stop = async (timeoutMs: number) => {
    tap.stop();
    await server.stop(timeoutMs);
    await large.stop();
    await enqueuer.idle();
    // Do not wait for a Redis that hangs: the lease expires by itself.
    const leaveWriting = async () => {
      await mergeInterval?.stop();
      await limiting?.stop();
    };
    await Promise.race([leaveWriting(), wait(Math.min(timeoutMs, RELEASE_MS), undefined, { ref: false })]);
    dlq?.close();
    link.close();
  };
  const address = await server.start().catch(async (error: unknown) => {
    await stop(0);
    throw error;
  });
  host.log.info({ address: formatAddress(address) }, 'receiving OTLP/HTTP');
  return {
    name: 'receiver',
    letsIn: true,
    address,
    reached: () => link.wasReady,
    notReady,
    stop,
  };
}

function revealed(secrets: readonly Secret[]): string[] {
  return secrets.map((secret) => secret.reveal());
}
