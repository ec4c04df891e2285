import { resolve } from 'node:path';
import type { Config } from '@nrdot/config';
import { AREAS, DirectoryLock, NodeFileSystem, SegmentLog } from '@nrdot/segment-log';
import {
  type Address,
  formatAddress,
  type Host,
  hostFor,
  makeDirectory,
  openStore,
  permissionError,
  type RunningService,
  steadyNow,
} from '@nrdot/service';
import { problemOf } from '@nrdot/status';
import { alignedInterval, countOf, countText, timeText, WELL } from '@nrdot/telemetry';
import { DirectIntake } from './direct-intake.ts';
import { Housekeeping } from './housekeeping.ts';
import { Intake } from './intake.ts';
import { Ledger } from './ledger.ts';
import { ReplayRate } from './replay-rate.ts';
import { Replayer } from './replayer.ts';
import { keptFree, reserveOf } from './reserve.ts';
import { addRoutes, dlqState } from './routes.ts';
import { REPLAY_AREAS } from './selection.ts';
import { dlqStatus } from './status.ts';

const TICK_MS = 1_000;
/** A volume that another user has written to contains files that this process may not use. */
const permitted = <T>(opening: Promise<T>): Promise<T> =>
  opening.catch((error: unknown) => {
    throw permissionError(error, 'dlq.dir');
  });
const UNSTARTED_STOP_MS = 2_000;
const VERIFY_BYTES_PER_SECOND = 32 * 1024 * 1024;
const STATES = ['ok', 'full', 'disk_full', 'disk_failing'] as const;

/**
 * Starts the dlq of this process: opens the disk, stores what spills, replays what is there.
 * @throws DirectoryTaken if another dlq uses the directory
 */
export async function startDlq(
  config: Config,
  processHost: Host,
): Promise<RunningService & { address: Address }> {
  const host = hostFor(processHost, 'dlq');
  const { log, metrics, registry } = host;
  const dir = resolve(config.dlq.dir);
  makeDirectory(dir, 'dlq.dir');
  const reserve = await permitted(reserveOf(config, dir, host.redisIsOwn ?? false));
  const options = { ...config.dlq, dir, ...reserve };
  const lock = await DirectoryLock.take(dir);
  if (!lock) log.warn({ dir }, 'the directory cannot be locked; make sure that no other dlq uses it');
  const { link, store, notReady } = openStore(config, host, 'consumer', 'dlq');

  const ledger = await permitted(Ledger.open(dir));
  const fs = new NodeFileSystem();
  const segments = await permitted(
    SegmentLog.open({
      ...options,
      version: host.status.version,
      fs,
      verifyBytesPerSecond: VERIFY_BYTES_PER_SECOND,
      events: {
        corrupted: ({ items, ...what }) => {
          metrics.dlqCorrupted.inc();
          log.error({ ...what, items }, 'data on disk is damaged; it is kept in quarantine');
        },
        unreadable: (what) =>
          log.warn(what, 'a file cannot be read at the moment; its data waits until a retry succeeds'),
        dropped: (area, items, reason) =>
          log.warn({ area, items, reason }, 'batches were dropped from the disk'),
        writtenOff: (area, totals) =>
          void ledger
            .writtenOff(area, totals)
            .catch((error: Error) => log.warn({ err: error.message }, 'the ledger could not be written')),
        ballast: (state) => {
          if (state === 'kept') log.info('the disk has room again; the ballast was restored');
          else
            log.error(
              'something else filled the disk; the ballast was removed so that delivered batches can be deleted',
            );
        },
        fault: (error) =>
          host.transitions.to('disk', error.code, {
            level: 'error',
            message: `The disk accepts nothing: ${error.message}.`,
          }),
      },
      now: steadyNow,
    }),
  );

  await ledger.conclude(segments.lastIds);
  const changed = () => keeping.changed(); // which is made below, before anything can change
  const { maxBodyBytes, maxInflightBytes } = config.receiver;
  const intake = new Intake({
    ...{ store, segments, log, metrics, changed, maxBodyBytes, maxInflightBytes },
    unsettled: ledger.unsettled,
    concurrency: options.intakeConcurrency,
  });
  const limits = { maxBytes: maxBodyBytes, maxInflightBytes };
  const token = options.token?.reveal();
  const direct = new DirectIntake({ ...options, ...limits, token }, intake, ledger, log);
  const rate = new ReplayRate(options.replayBytesPerSecond, steadyNow());
  const replayer = new Replayer({
    ...{ store, segments, rate, log, metrics, changed, now: steadyNow },
    ...{ weights: config.scheduler.weights, poisonAfter: options.poisonAfter },
  });

  host.live.follow((next, before) => () => {
    replayer.setWeights(next.scheduler.weights);
    // A rate that was set at runtime stays until the configured one changes.
    if (next.dlq.replayBytesPerSecond !== before.dlq.replayBytesPerSecond)
      rate.setCap(next.dlq.replayBytesPerSecond);
  });

  const keeping = new Housekeeping({
    ...{ store, segments, ledger, replayer, intake },
    notReady: () => link.notReady(),
    lost: (items, seen) =>
      host.transitions.happened(
        'redis_lost',
        `Redis has lost its data. ${countText(items, 'item')} that were in it are lost, and counted as dropped (redis_lost); those that exporters had may still have been delivered. The last snapshot was taken at ${timeText(seen.at)}, with ${countText(seen.live, 'item')}: later data that was only in Redis is unknown. Data on disk is still delivered.`,
        'error',
      ),
    older: (items) =>
      host.transitions.happened(
        'redis_older',
        `Redis is back with an older state: ${items > 0 ? `its accounting lacks at least ${countText(items, 'item')} that were accepted` : 'it lacks the last report of the dlq'}. What it had accepted just before may be lost, and batches may be delivered twice; "nrdot doctor" checks the accounting.`,
        'error',
      ),
  });
  let ticking: Promise<void> | undefined;
  const endTicks = alignedInterval(() => {
    if (!segments.fault)
      host.transitions.to('disk', WELL, {
        message: (lasted) => `The disk accepts data again after ${lasted}.`,
      });
    ticking ??= keeping
      .turn()
      .catch((error: Error) => log.debug({ err: error.message }, 'could not report the state of the disk'))
      .finally(() => {
        ticking = undefined;
      });
  }, TICK_MS);

  const deps = { segments, replayer, rate, log, now: Date.now };
  addRoutes(host.admin, deps);
  host.status.add(
    'dlq',
    async () => ({
      ...problemOf({ notReady }),
      ...(await dlqStatus(deps, options, await countOf(metrics.dlqReplayedItems))),
    }),
    { store, link },
  );
  metrics.dlqReplayRate.set(rate.bytesPerSecond);
  registry.onScrape(async () => {
    const state = dlqState(deps);
    metrics.dlqReplayPaused.set(state.replay.paused ? 1 : 0);
    metrics.dlqUtilization.set(state.utilization);
    for (const area of AREAS) {
      const { items, diskBytes, segments: files, oldestReceivedAt } = state.areas[area];
      metrics.dlqItems.set({ area }, items);
      metrics.dlqBytes.set({ area }, diskBytes);
      metrics.dlqSegments.set({ area }, files);
      const ageMs = oldestReceivedAt === 0 ? 0 : Date.now() - oldestReceivedAt;
      if (area !== 'rejected') metrics.dlqOldestAge.set({ class: area }, Math.max(0, ageMs) / 1000);
    }
    metrics.dlqDrainSeconds.set(state.replay.drainSeconds);
    for (const known of STATES) metrics.dlqState.set({ state: known }, known === state.state ? 1 : 0);
    metrics.dlqFreeBytes.set(Math.max(0, (await fs.freeBytes(dir)) - (await keptFree(options))));
  });
  const stop = async (timeoutMs: number) => {
    endTicks();
    await direct.stop();
    // Commands that wait for Redis would never end while it is away.
    const late = setTimeout(() => link.close(), link.notReady() ? 0 : timeoutMs);
    await replayer.stop();
    await intake.stop(timeoutMs);
    await ticking;
    clearTimeout(late);
    if (!link.notReady()) await keeping.report().catch(() => {}); // reported by the next start
    link.close();
    await segments.close();
    await ledger.close();
    await lock?.free();
  };
  // Otherwise the intake from the spill queue would keep running, in a directory that the next dlq takes for its own.
  const address = await direct.start().catch(async (error: unknown) => {
    await stop(UNSTARTED_STOP_MS);
    throw error;
  });
  const held = REPLAY_AREAS.reduce((sum, area) => sum + segments.stats(area).items, 0);
  log.info({ dir, items: held, direct: formatAddress(address) }, 'ready to store spilled batches');
  void link.untilReady();
  return {
    name: 'dlq',
    address,
    reached: () => link.wasReady,
    notReady: () => notReady() ?? segments.fault?.message,
    stop,
  };
}
