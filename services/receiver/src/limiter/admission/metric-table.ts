import type { MetricPolicy } from '../options.ts';
import type { EntropySketch } from './entropy.ts';

/** Maximum number of scored labels per metric, for points and resources each. */
const LABELS_MAX = 64;
const METRICS_MAX = 4096;
const NAME_MAX_CHARS = 200;

/** Shared by the many metrics whose labels are never evaluated. */
const NONE: Labels = { point: [], resource: [] };

export type Place = 'point' | 'resource';
type Labels = Readonly<Record<Place, readonly Label[]>>;

/** One label of one metric. */
export class Label {
  readonly name: string;
  readonly key: Uint8Array;
  readonly keyHash: number;
  readonly place: Place;
  sketch: EntropySketch | undefined;
  isProtected = false;
  /** Listed in `aggregateLabels`. */
  isListed = false;
  /** Stripped from every stream of the metric. */
  removed = false;
  removedAtMs = 0;
  /** Points were dropped or overflowed because of it; set so that this is logged once. */
  critical = false;

  constructor(key: Uint8Array, keyHash: number, place: Place) {
    this.key = Uint8Array.from(key);
    this.name = Buffer.from(this.key).toString('utf8');
    this.keyHash = keyHash;
    this.place = place;
  }
}

/** What is stripped from a stream: these labels, or (overflow) all attributes of the point. */
export interface Reduction {
  readonly resourceLabels: readonly Label[];
  readonly pointLabels: readonly Label[];
  readonly overflow: boolean;
}

/** The labels stripped from a metric, as all receivers of a pipeline share it. */
export interface SharedRule {
  metric: string;
  point: string[];
  resource: string[];
  /** Cumulative counters were merged under it, so it does not end by itself. */
  counts: boolean;
}

/** One metric name and the decisions about it. */
export class Metric {
  readonly id: number;
  readonly name: string;
  readonly hash: number;
  policy: MetricPolicy;
  /** Number of its key-sets in the table. */
  keys = 0;
  /** Distinct series of this UTC day of all receivers, as last reported; and key-sets that came in here since. */
  dailyKeys = 0;
  dailyNew = 0;
  /** Its labels are scored. */
  sketching = false;
  labels = NONE;
  /** The labels that were stripped, if any. */
  rule: Reduction | undefined;
  ruleSinceMs = 0;
  /** Cumulative counters were merged under that rule: it does not end by itself. */
  mergedCounts = false;
  /** Some of its points go to the overflow stream. */
  overflowed = false;
  overflowedAtMs = 0;
  /** The label because of which new key-sets are refused. */
  critical: Label | undefined;
  /** Points were refused because the table was full; set so that this is logged once. */
  refused = false;
  #overflow: Map<Label | undefined, Reduction> | undefined;
  readonly #writerLabel: Label;

  /** @param writerLabel stripped together with the first label, so that what other gateways merged is merged again */
  constructor(id: number, name: string, hash: number, policy: MetricPolicy, writerLabel: Label) {
    this.#writerLabel = writerLabel;
    this.id = id;
    this.name = name;
    this.hash = hash;
    this.policy = policy;
  }

  /** There is no decision about it: known points pass without further checks. */
  get plain(): boolean {
    return this.rule === undefined && !this.overflowed;
  }

  /** @returns -1 if it has too many labels already */
  addLabel(key: Uint8Array, keyHash: number, place: Place): number {
    const labels = this.labels[place];
    if (labels.length >= LABELS_MAX || key.length > NAME_MAX_CHARS) return -1;
    const label = new Label(key, keyHash, place);
    this.#applyPolicy(label);
    this.labels = { ...this.labels, [place]: [...labels, label] };
    return labels.length;
  }

  setPolicy(policy: MetricPolicy): void {
    this.policy = policy;
    for (const label of this.allLabels()) {
      this.#applyPolicy(label);
      if (label.removed && label.isProtected) this.restore(label);
      if (label.isProtected && this.critical === label) this.critical = undefined;
    }
  }

  /** To be called only while there is no decision about any of them. */
  forgetLabels(): void {
    this.labels = NONE;
    this.critical = undefined;
    this.#overflow = undefined;
  }

  #applyPolicy(label: Label): void {
    label.isProtected = this.policy.protectedLabels.includes(label.name);
    label.isListed = this.policy.aggregateLabels.includes(label.name);
  }

  allLabels(): Label[] {
    return [...this.labels.point, ...this.labels.resource];
  }

  /** Strips a label from all streams. */
  remove(label: Label, nowMs: number): void {
    this.setRemoved(label, true, nowMs, nowMs);
  }

  restore(label: Label): void {
    this.setRemoved(label, false, label.removedAtMs, this.ruleSinceMs);
  }

  setRemoved(label: Label, removed: boolean, removedAtMs: number, ruleSinceMs: number): void {
    label.removed = removed;
    label.removedAtMs = removedAtMs;
    this.ruleSinceMs = ruleSinceMs;
    this.#rebuild();
  }

  /** Applies a shared rule; unknown labels are added. */
  setRule(rule: SharedRule, hashOf: (key: Uint8Array, place: Place) => number, nowMs: number): void {
    for (const place of ['point', 'resource'] as const) {
      const wanted = new Set(rule[place]);
      const known = new Set(this.labels[place].map(({ name }) => name));
      for (const name of wanted) {
        if (known.has(name)) continue;
        const key = Buffer.from(name);
        this.addLabel(key, hashOf(key, place), place);
      }
      for (const label of this.labels[place]) {
        if (label.removed !== wanted.has(label.name)) this.setRemoved(label, !label.removed, nowMs, nowMs);
      }
    }
    this.mergedCounts = rule.counts;
    this.#rebuild();
  }

  forgetRule(): void {
    for (const label of this.allLabels()) label.removed = label.critical = false;
    this.overflowed = this.mergedCounts = this.refused = false;
    this.critical = undefined;
    this.#rebuild();
  }

  /** The rule to share with other receivers; undefined if there is none. */
  get sharedRule(): SharedRule | undefined {
    if (!this.rule) return undefined;
    return {
      metric: this.name,
      point: this.rule.pointLabels.filter((label) => label !== this.#writerLabel).map(({ name }) => name),
      resource: this.rule.resourceLabels.map(({ name }) => name),
      counts: this.mergedCounts,
    };
  }

  #rebuild(): void {
    const resourceLabels = this.labels.resource.filter((label) => label.removed);
    const pointLabels = this.labels.point.filter((label) => label.removed);
    this.rule =
      resourceLabels.length + pointLabels.length > 0
        ? { resourceLabels, pointLabels: [...pointLabels, this.#writerLabel], overflow: false }
        : undefined;
    this.#overflow = undefined;
  }

  /** The metric's overflow stream; if `cause` is a resource label, it is stripped there. */
  overflow(cause: Label | undefined): Reduction {
    const extra = cause?.place === 'resource' && !cause.removed ? cause : undefined;
    this.#overflow ??= new Map();
    let reduction = this.#overflow.get(extra);
    if (!reduction) {
      const resourceLabels = [...(this.rule?.resourceLabels ?? []), ...(extra ? [extra] : [])];
      reduction = { resourceLabels, pointLabels: [], overflow: true };
      this.#overflow.set(extra, reduction);
    }
    return reduction;
  }
}

/** The metrics by name: at most 4,096; all others share one entry without decisions. */
export class MetricTable {
  readonly #byHash = new Map<number, Metric>();
  readonly #byId: Metric[];
  readonly #policyOf: (name: string) => MetricPolicy;
  #hand = 0;
  readonly #writerLabel: Label;
  evictions = 0;

  constructor(policyOf: (name: string) => MetricPolicy, writerLabel: Label) {
    this.#policyOf = policyOf;
    this.#writerLabel = writerLabel;
    this.#byId = [new Metric(0, '(other metrics)', 0, policyOf('(other metrics)'), writerLabel)];
  }

  byId(id: number): Metric {
    return this.#byId[id]!;
  }

  all(): readonly Metric[] {
    return this.#byId;
  }

  /** @param lo @param hi hash of the name */
  get(lo: number, hi: number, body: Uint8Array, nameStart: number, nameEnd: number): Metric {
    const hash = (hi & 0x1fffff) * 4294967296 + (lo >>> 0);
    const found = this.#byHash.get(hash);
    if (found) return found;
    const length = Math.min(nameEnd - nameStart, NAME_MAX_CHARS);
    const name = Buffer.from(body.buffer, body.byteOffset + nameStart, length).toString('utf8');
    return this.named(hash, name);
  }

  /** The metric of this hash; created if missing. */
  named(hash: number, name: string): Metric {
    const found = this.#byHash.get(hash);
    if (found) return found;
    const id = this.#byId.length < METRICS_MAX ? this.#byId.length : this.#reclaim();
    if (id === 0) return this.#byId[0]!;
    const metric = new Metric(id, name, hash, this.#policyOf(name), this.#writerLabel);
    this.#byId[id] = metric;
    this.#byHash.set(hash, metric);
    return metric;
  }

  /**
   * Finds an entry without keys and decisions, or 0. Checks only a few at a time, so that a storm of names does not cost more.
   */
  #reclaim(): number {
    for (let step = 0; step < 16; step++) {
      this.#hand = (this.#hand % (METRICS_MAX - 1)) + 1;
      const metric = this.#byId[this.#hand]!;
      if (metric.keys > 0 || metric.sketching || !metric.plain) continue;
      this.#byHash.delete(metric.hash);
      this.evictions++;
      return this.#hand;
    }
    return 0;
  }
}
