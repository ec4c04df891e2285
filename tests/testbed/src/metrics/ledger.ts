/**
 * What a backend makes of metric streams by the OpenTelemetry data model, exactly. The same reading of what sources sent and of
 * what came out: only the streams differ.
 * https://opentelemetry.io/docs/specs/otel/metrics/data-model/
 *
 *   cumulative  a value is the total since its start: of each start the last value counts, in the order of times.
 *               A value that fell without a new start was reset all the same; both ends count.
 *   level       (a sum that may fall) the last value counts, of whatever start; none once it is said that its source is gone
 *   delta       every point counts, as often as it came
 *   gauge       not added up: which values there were, and when
 *
 * The same point of a cumulative stream may come any number of times.
 */
import { shown } from './exact.ts';
import { type Kind, type Point, readPoints, type Stream } from './reader.ts';
import { add, cutsBucket, fell, isEqual, NOTHING, type Value } from './value.ts';

/** What is added up together: one metric, one value of each label that is asked for. */
export interface Group {
  kind: Kind;
  /** In words; the key of the group as well. */
  name: string;
  total: Value;
  /** Of gauges: `time value` of every point. */
  readings: ReadonlySet<string>;
}

type Reading = Omit<Point, 'stream'>;

interface Track {
  stream: Stream;
  /** Of cumulative streams, by time and start. Of gauges too. */
  points: Map<string, Reading>;
  /** Of delta streams. */
  sum: Value;
  faults: Set<string>;
}

const POINTS_MAX = 4_000_000;

export class MetricLedger {
  readonly #concerns: (stream: Stream) => boolean;
  readonly #tracks = new Map<string, Track>();
  #points = 0;

  /** @param concerns which streams it keeps account of; all without */
  constructor(concerns: (stream: Stream) => boolean = () => true) {
    this.#concerns = concerns;
  }

  /** Takes a request: protobuf, as it is without compression. */
  take(body: Buffer): void {
    for (const point of readPoints(body)) if (this.#concerns(point.stream)) this.#takePoint(point);
  }

  get streams(): number {
    return this.#tracks.size;
  }

  get points(): number {
    return this.#points;
  }

  /** Streams of counts that are cumulative; levels are none. */
  get cumulativeCounts(): number {
    const isOne = ({ stream: { kind, temporality } }: Track) =>
      temporality === 'cumulative' && kind !== 'level' && kind !== 'gauge';
    return [...this.#tracks.values()].filter(isOne).length;
  }

  has(identity: string): boolean {
    return this.#tracks.has(identity);
  }

  /** @param kept labels that tell groups apart, of points or of resources */
  groups(kept: readonly string[]): Map<string, Group> {
    const groups = new Map<string, Group>();
    for (const track of this.#tracks.values()) {
      const { stream } = track;
      const name = groupName(stream, kept);
      const known = groups.get(name);
      groups.set(name, {
        kind: stream.kind,
        name,
        total: add(known?.total ?? NOTHING, totalOf(track)),
        readings: new Set([...(known?.readings ?? []), ...readingsOf(track)]),
      });
    }
    return groups;
  }

  /** What no single writer of a stream would write, by the stream's identity. */
  faults(): Map<string, string[]> {
    const found = new Map<string, string[]>();
    for (const [identity, track] of this.#tracks) {
      const faults = [...track.faults, ...faultsOf(track)];
      if (faults.length > 0) found.set(identity, faults);
    }
    return found;
  }

  #takePoint({ stream, ...reading }: Point): void {
    const { start, time, stale, value } = reading;
    let track = this.#tracks.get(stream.identity);
    if (!track) {
      track = { stream, points: new Map(), sum: NOTHING, faults: new Set() };
      this.#tracks.set(stream.identity, track);
    }
    if (this.#points >= POINTS_MAX) throw new Error(`a ledger holds ${POINTS_MAX} points`);
    this.#points += 1;
    if (!stale && !value) {
      if (stream.kind !== 'summary') track.faults.add('a value is not finite');
      return;
    }
    if (value && cutsBucket(value)) track.faults.add('a bucket lies partly below the zero threshold');
    if (stream.temporality === 'delta') {
      if (value && !stale) track.sum = add(track.sum, value);
      return;
    }
    const key = `${time} ${start} ${stream.kind === 'gauge' ? valueText(value) : ''}`;
    const known = track.points.get(key);
    if (!known) track.points.set(key, reading);
    else if (value && known.value && !isEqual(known.value, value)) {
      track.faults.add(`two values at the time ${time}`);
      if (fell(known.value, value)) return;
      track.points.set(key, reading);
    }
  }
}

function inOrder({ points }: Track): Reading[] {
  return [...points.values()].sort((a, b) =>
    a.time !== b.time ? (a.time < b.time ? -1 : 1) : a.start < b.start ? -1 : 1,
  );
}

function totalOf(track: Track): Value {
  const { kind, temporality } = track.stream;
  if (kind === 'gauge' || kind === 'summary') return NOTHING;
  if (temporality === 'delta') return track.sum;
  const points = inOrder(track);
  if (kind === 'level') {
    const last = points.at(-1);
    return last && !last.stale ? last.value! : NOTHING;
  }
  /** Of each start, where it stands; what it had reached before it fell is in `ended`. */
  const reached = new Map<bigint, Value>();
  let total = NOTHING;
  for (const { start, value, stale } of points) {
    if (stale || !value) continue;
    const before = reached.get(start);
    if (before && fell(before, value)) total = add(total, before);
    reached.set(start, value);
  }
  for (const value of reached.values()) total = add(total, value);
  return total;
}

function faultsOf(track: Track): string[] {
  const { kind, temporality } = track.stream;
  if (kind === 'gauge' || kind === 'summary' || temporality === 'delta') return [];
  const faults = new Set<string>();
  const reached = new Map<bigint, Value>();
  let newest = 0n;
  let lastTime = -1n;
  for (const { start, time, value, stale } of inOrder(track)) {
    if (stale || !value) continue;
    if (start < newest) faults.add(`a start comes back: ${start} after ${newest}`);
    else newest = start;
    if (time === lastTime) faults.add(`two points at the time ${time}`);
    lastTime = time;
    const before = reached.get(start);
    if (kind !== 'level' && before && fell(before, value))
      faults.add(`a value fell without a new start at ${time}`);
    reached.set(start, value);
  }
  return [...faults];
}

function readingsOf({ stream, points }: Track): string[] {
  if (stream.kind !== 'gauge') return [];
  return [...points.values()]
    .filter(({ stale }) => !stale)
    .map(({ time, value }) => `${time} ${valueText(value)}`);
}

function valueText(value: Value | undefined): string {
  return shown(value?.parts.get('value') ?? 0n);
}

function groupName({ name, unit, kind, resource, labels }: Stream, kept: readonly string[]): string {
  const named = kept.map((label) => `${label}=${labels.get(label) ?? resource.get(label) ?? ''}`);
  return `${kind} ${name}${unit && ` (${unit})`}${named.length > 0 ? ` of ${named.join(', ')}` : ''}`;
}
