import { Session } from 'node:inspector';
import v8 from 'node:v8';

/**
 * Counts what a piece of work costs, in steps that are the same on every machine:
 *
 * - how often each block of JavaScript ran (V8's precise coverage: bodies of functions, of loops, branches);
 * - how much built-in functions were given that take a whole list, text or buffer (`Buffer.concat`, spread, `slice`, …): V8
 *   does not look inside them, and copying a list once for each of its elements is the usual mistake;
 * - how often a regular expression had to go back.
 *
 * Only code that is loaded after `Meter.start` is counted by its blocks, so load what is measured with `import()`.
 */
export class Meter {
  readonly #session = new Session();
  #native = 0;
  #matching = 0;
  #counting = false;
  readonly #undo: (() => void)[] = [];

  static start(): Meter {
    const meter = new Meter();
    meter.#session.connect();
    meter.#post('Profiler.enable');
    meter.#post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
    meter.#watchBuiltIns();
    return meter;
  }

  stop(): void {
    for (const undo of this.#undo) undo();
    this.#post('Profiler.stopPreciseCoverage');
    this.#session.disconnect();
  }

  /** The steps of one call. */
  async steps(work: () => unknown): Promise<number> {
    this.#take(); // what ran until now
    this.#native = 0;
    this.#matching = 0;
    this.#counting = true;
    try {
      await work();
    } finally {
      this.#counting = false;
    }
    return this.#take() + this.#native + this.#matching;
  }

  #take(): number {
    let steps = 0;
    const { result } = this.#post('Profiler.takePreciseCoverage') as { result: Coverage[] };
    for (const { url, functions } of result) {
      if (url === import.meta.url || url.startsWith('node:internal/')) continue;
      for (const { ranges } of functions) for (const { count } of ranges) steps += count;
    }
    return steps;
  }

  #post(method: string, parameters: object = {}): unknown {
    let answer: unknown;
    this.#session.post(method as never, parameters as never, (error: Error | null, result: unknown) => {
      if (error) throw error;
      answer = result;
    });
    return answer;
  }

  #watchBuiltIns(): void {
    const meter = this;
    for (const [owner, built] of BUILT_INS) {
      for (const [name, cost] of Object.entries(built)) {
        const original = owner[name] as (...given: unknown[]) => unknown;
        owner[name] = function (this: unknown, ...given: unknown[]) {
          const answer = original.apply(this, given);
          if (meter.#counting) meter.#native += cost(this as never, given as never, answer as never);
          return answer;
        };
        this.#undo.push(() => {
          owner[name] = original;
        });
      }
    }
    // Spread and destructuring ask for an iterator.
    const iterate = Array.prototype[Symbol.iterator];
    Array.prototype[Symbol.iterator] = function () {
      if (meter.#counting) meter.#native += this.length;
      return iterate.call(this);
    };
    const { concat } = Buffer;
    Buffer.concat = (list, total) => {
      const whole = concat(list, total);
      if (meter.#counting) meter.#native += whole.byteLength + list.length;
      return whole;
    };
    const { exec } = RegExp.prototype;
    RegExp.prototype.exec = function (text) {
      if (meter.#counting) {
        meter.#counting = false;
        meter.#matching += backtracks(this, String(text));
        meter.#counting = true;
      }
      return exec.call(this, text);
    };
    this.#undo.push(() => {
      Array.prototype[Symbol.iterator] = iterate;
      Buffer.concat = concat;
      RegExp.prototype.exec = exec;
    });
  }
}

interface Coverage {
  url: string;
  functions: { ranges: { count: number }[] }[];
}

type Owner = Record<string, unknown>;
type Sized = { length: number };
/** What a call went through, by the object it was called on, its arguments and its answer. */
type Cost = (on: Sized, given: never[], answer: never) => number;

const whole: Cost = (on) => 1 + on.length;
const result: Cost = (_, __, answer: Sized) => 1 + answer.length;
const given: Cost = (_, [from]: Sized[]) => 1 + from!.length;
const range: Cost = (on, [, from = 0, to = on.length]: number[]) => 1 + Math.max(0, to - from);
/** From where the search began to where it ended. */
const searched: Cost = (on, [, from = 0]: number[], found: number | boolean) =>
  1 + Math.max(0, (typeof found === 'number' && found >= 0 ? found : on.length) - from);

const BUILT_INS: readonly (readonly [Owner, Readonly<Record<string, Cost>>])[] = [
  [
    Array.prototype as unknown as Owner,
    {
      ...{ slice: result, concat: result, splice: whole, unshift: whole, join: whole, fill: whole },
      ...{ includes: whole, indexOf: searched },
    },
  ],
  [
    String.prototype as unknown as Owner,
    { split: whole, replaceAll: whole, trim: whole, repeat: result, includes: whole, indexOf: searched },
  ],
  [
    Object.getPrototypeOf(Uint8Array.prototype) as Owner,
    { slice: result, set: given, fill: range, copyWithin: range, includes: whole, indexOf: searched },
  ],
  [Object as unknown as Owner, { entries: result, keys: result, values: result }],
];

/**
 * How often the engine goes back while it looks for a pattern in a text, to a sixteenth: it is asked again and again, with leave
 * to go back once, twice, four times …, until it comes to an end. A run of one character class is gone back through as one.
 */
function backtracks(pattern: RegExp, text: string): number {
  const rest = text.slice(pattern.global || pattern.sticky ? pattern.lastIndex : 0);
  const ends = (limit: number) => plainExec.call(limited(pattern, limit), rest) !== null;
  let enough = 16;
  while (enough < MOST && !ends(enough)) enough *= 2;
  let tooFew = enough / 2;
  while (enough > 16 && enough - tooFew > enough / 16) {
    const between = (tooFew + enough) >> 1;
    if (ends(between)) enough = between;
    else tooFew = between;
  }
  return enough;
}

const MOST = 2 ** 29;
const known = new Map<string, RegExp>();

/** The pattern, or nothing at all: a second alternative that always matches tells "gave up" from "is not there". */
function limited({ source, flags }: RegExp, limit: number): RegExp {
  const id = `${limit} ${flags} ${source}`;
  let pattern = known.get(id);
  if (!pattern) {
    pattern = withBacktrackLimit(`[^]*?(?:${source})|(?:)`, flags.replace(/[gyd]/g, ''), limit);
    known.set(id, pattern);
  }
  return pattern;
}

const plainExec = RegExp.prototype.exec;
// V8's own tests have this: a pattern that gives up after so many steps back.
v8.setFlagsFromString('--allow-natives-syntax');
const withBacktrackLimit = new Function('s', 'f', 'l', 'return %NewRegExpWithBacktrackLimit(s, f, l)') as (
  source: string,
  flags: string,
  limit: number,
) => RegExp;
