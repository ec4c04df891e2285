import type { Config } from '@nrdot/config';
import { addConsole, addDoctor, readEvents } from '@nrdot/console';
import { RedisWakeSignal } from '@nrdot/queue';
import { describeTarget } from '@nrdot/redis';
import { type Host, hostFor, openStore, type RunningService, redisTarget, steadyNow } from '@nrdot/service';
import {
  type AccountLimits,
  History,
  problemOf,
  publishState,
  readState,
  type StateOptions,
  StatusReader,
  Watch,
} from '@nrdot/status';
import { Scheduler } from './scheduler.ts';

const MAX_PICKS = 32;

/** Starts the scheduler of this process; it waits for Redis in the background. */
export async function startScheduler(config: Config, processHost: Host): Promise<RunningService> {
  const host = hostFor(processHost, 'scheduler');
  const { link, store, notReady } = openStore(config, host, 'consumer', 'scheduler');
  // Other processes send the wake signal through Redis.
  const wakeSignal = host.inProcess?.scheduler ?? new RedisWakeSignal(link.redis, store.keys.wake);
  const { scheduler: options } = config;
  const { weights, slotMs, pollMs, exportWindow: windowBatches, exportWindowBytes: windowBytes } = options;
  const mergeBytes = Math.min(
    options.mergeBytes,
    config.exporter.maxRequestBytes ?? Number.POSITIVE_INFINITY,
  );
  const scheduler = new Scheduler(
    { weights, windowBatches, windowBytes, mergeBytes, maxPicks: MAX_PICKS, slotMs, pollMs },
    { store, wakeSignal, log: host.log, metrics: host.metrics, now: Date.now },
  );
  const state: StateOptions = {
    weights: () => scheduler.weights,
    decisionsPerSecond: () => scheduler.decisionsPerSecond,
    maxBytes: config.queue.maxBytes,
    maxItems: config.queue.maxItems,
    perClass: config.queue.perClass,
    slotMs: options.slotMs,
    notReady,
  };
  let accountLimits: AccountLimits = config.exporter.accountLimits;
  host.live.follow((next) => () => {
    scheduler.setWeights(next.scheduler.weights);
    accountLimits = next.exporter.accountLimits;
  });
  publishState(host.registry, store, state, Date.now);
  host.admin.route('GET', '/api/scheduler', () => readState(store, state, Date.now()));
  host.status.add('scheduler', () => problemOf({ notReady }), { store, link });
  const reader = new StatusReader({
    accountLimits: () => accountLimits,
    ...{ store, state, board: host.status, now: Date.now, steadyNow, readyForMs: () => link.readyForMs },
    redis: { address: describeTarget(redisTarget(config)), isOwn: host.redisIsOwn ?? false },
  });
  host.registry.onScrape(async () => {
    const { pipelineAccountPerMinute: used, pipelineAccountLimitPerMinute: limit } = host.metrics;
    used.reset();
    limit.reset();
    if (Object.values(accountLimits).every((of) => of === undefined)) return;
    for (const { of, perMinute, limitPerMinute } of (await reader.read()).account ?? []) {
      used.set({ of }, perMinute);
      limit.set({ of }, limitPerMinute);
    }
  });
  const history = new History(() => reader.read());
  const watch = new Watch({
    read: () => reader.read(),
    transitions: host.transitions,
    tells: () => store.isTeller(host.status.instance),
  });
  host.admin.route('GET', '/api/status', () => reader.read());
  addDoctor(host, store, { maxBodyBytes: config.receiver.maxBodyBytes, notReady });
  host.admin.route('GET', '/api/events', ({ query }) =>
    readEvents({ store, board: host.status, notReady: state.notReady }, query),
  );
  addConsole(host.admin, store);
  host.admin.route('GET', '/api/status/history', () => history.columns());
  void link.untilReady().then((ready) => {
    if (ready) host.log.info('scheduling');
  });
  return {
    name: 'scheduler',
    reached: () => link.wasReady,
    notReady,
    stop: async (timeoutMs) => {
      history.stop();
      watch.stop();
      // A move that waits for Redis would never end while it is away; it is one script, so it happens or not.
      const late = setTimeout(() => link.close(), link.notReady() ? 0 : timeoutMs);
      await scheduler.stop();
      clearTimeout(late);
      link.close();
    },
  };
}
