/**
 * Producers of cumulative metrics in a schedule. Each sends its requests one after the other, to whatever receiver, until they
 * are acknowledged; an exact account says what has to come of them.
 */
import {
  judgeTotals,
  MetricLedger,
  MetricProducer,
  metricsRequest,
  type ProducerOptions,
  readPoints,
  shown,
} from '@nrdot/testbed';
import type { Choices } from './choices.ts';
import type { Receiver } from './parties.ts';
import type { Life, World } from './world.ts';

const PRODUCERS = 2;
const ROUNDS_MAX = 5;
/** With both producers more series than a metric may have before a label of it is given up. */
const SERIES = 5;
const KINDS = [
  ['counter', 'level'],
  ['histogram', 'counter'],
  ['exponential histogram', 'double counter'],
] as const;
const RETRY_MS = 100;
const START_MS = 1_000;
const MERGE_INTERVAL_MS = 500;

export interface Reachable {
  name: string;
  life: Life;
  receiver: Receiver;
}

interface Attempt {
  life: Life;
  /** Sends it again. */
  again(): void;
}

interface Script {
  name: string;
  options: ProducerOptions;
  /** Begins when a receiver has taken its first request: what began before anybody watched cannot be known. */
  producer: MetricProducer | undefined;
  rounds: number;
  requests: Buffer[];
}

/** The points of a request, for the story. */
export function pointsIn(body: Buffer): string {
  return readPoints(body)
    .map(({ stream, time, stale, value }) => {
      const labels = [...stream.labels].map(([key, text]) => `${key}=${text}`).join(' ');
      const parts = [...(value?.parts ?? [])].map(([name, size]) => `${name} ${shown(size)}`).join(', ');
      return `\n    ${stream.name} of ${labels} at ${time / 1_000_000n} ms: ${stale ? 'stale' : parts}`;
    })
    .join('');
}

export class Merging {
  readonly received = new MetricLedger();
  /** Of the receivers. */
  readonly mergeIntervalMs: number;
  readonly #counted = new MetricLedger();
  readonly #world: World;
  readonly #choices: Choices;
  readonly #receivers: () => readonly Reachable[];
  readonly #inFlight = new Set<Attempt>();
  #producing = 0;
  #dropped = 0;

  constructor(world: World, choices: Choices, receivers: () => readonly Reachable[]) {
    this.#world = world;
    this.#choices = choices;
    this.#receivers = receivers;
    this.mergeIntervalMs = choices.pick(3) * MERGE_INTERVAL_MS;
  }

  begin(): void {
    const { time } = this.#world;
    const kinds = KINDS[this.#choices.pick(KINDS.length)]!;
    const startsWithProcess = this.#choices.pick(2) === 1;
    const seed = this.#choices.pick(2 ** 16);
    for (let n = 0; n < PRODUCERS; n++) {
      const name = `p${n}`;
      const options = { seed: seed * PRODUCERS + n, name, series: SERIES, kinds, startsWithProcess };
      const rounds = 2 + this.#choices.pick(ROUNDS_MAX - 1);
      const first = metricsRequest({}, [
        { name: 'up', kind: 'gauge', labels: {}, time: BigInt(time.nowMs) * 1_000_000n, value: 1 },
      ]);
      this.#producing++;
      this.#later(START_MS, { name, options, producer: undefined, rounds, requests: [first] });
    }
  }

  get isDone(): boolean {
    return this.#producing === 0;
  }

  /** Whoever waits for an answer of a process that was killed sends again. */
  ended(life: Life): void {
    for (const attempt of this.#inFlight) if (attempt.life === life) attempt.again();
  }

  /** What is wrong with the totals, in words. */
  complaints(): string[] {
    if (this.#dropped > 0) return [`${this.#dropped} points were dropped`];
    return judgeTotals(this.received, { counted: this.#counted, atMost: this.#counted, kept: [] });
  }

  #later(ms: number, script: Script): void {
    const { time } = this.#world;
    const { owner } = time;
    time.owner = undefined;
    setTimeout(() => this.#next(script), ms);
    time.owner = owner;
  }

  #next(script: Script): void {
    const { time } = this.#world;
    if (script.requests.length === 0) {
      if (script.rounds < 0) {
        this.#producing--;
        return;
      }
      script.producer ??= new MetricProducer(script.options, time.nowMs);
      if (this.#choices.pick(10) === 9) {
        this.#world.say(`${script.name} restarts`);
        script.producer.restart(time.nowMs);
      }
      const isLast = script.rounds-- === 0;
      script.requests = isLast ? script.producer.finish(time.nowMs) : script.producer.collect(time.nowMs);
    }
    const [body] = script.requests;
    if (body) this.#send(script, body);
    else this.#later(RETRY_MS, script);
  }

  #send(script: Script, body: Buffer): void {
    const world = this.#world;
    const { name } = script;
    world.operations.push({
      life: undefined,
      say: '',
      run: () => {
        const all = this.#receivers();
        const to = all[this.#choices.pick(all.length)]!;
        world.say(() => `${name} sends to ${to.name}:${pointsIn(body)}`);
        if (!to.life.alive) return this.#later(RETRY_MS, script);
        let isOver = false;
        const over = () => {
          this.#inFlight.delete(attempt);
          const wasOver = isOver;
          isOver = true;
          return wasOver;
        };
        const attempt: Attempt = {
          life: to.life,
          again: () => {
            if (!over()) this.#later(RETRY_MS, script);
          },
        };
        this.#inFlight.add(attempt);
        world.time.owner = to.life;
        to.receiver.takeMetrics(body).then(
          (dropped) => this.#answer(script, body, dropped, over),
          (error: Error) => {
            world.say(`${name} is refused: ${error.message}`);
            attempt.again();
          },
        );
      },
    });
  }

  /** The answer may get lost, as anything may. */
  #answer(script: Script, body: Buffer, dropped: number, over: () => boolean): void {
    const world = this.#world;
    world.operations.push({
      life: undefined,
      say: '',
      run: () => {
        if (over()) return;
        if (world.faultsLeft > 0 && this.#choices.pick(8) === 7) {
          world.faultsLeft--;
          world.say(`the answer to ${script.name} is lost`);
          return this.#later(RETRY_MS, script);
        }
        world.say(`${script.name} is told 200`);
        this.#dropped += dropped;
        this.#counted.take(body);
        script.requests.shift();
        this.#next(script);
      },
    });
  }
}
