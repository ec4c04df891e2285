import type { Reduction } from '../admission/metric-table.ts';
import type { Around, MetricBlock } from '../blocks.ts';
import type { Halves } from '../hash.ts';
import type { OutputStream } from './stream.ts';

/**
 * The changes of one request. Only messages with changes have a node; all other bytes are copied.
 *
 *   ResourceNode ─▶ ScopeNode ─▶ MetricNode ─▶ edits: triples of (tag start, end, action) of points, in order
 *
 * action: CUT, or the number of the stream whose point replaces it. Streams that leave their resource, because a resource label
 * is stripped, are in groups of their own: Group ─▶ ScopeGroup ─▶ MetricGroup ─▶ streams.
 */
export const CUT = -1;
export const KEEP = -2;

/** Range of a message. */
export interface Message {
  readonly tagStart: number;
  readonly start: number;
  readonly end: number;
}

export interface ResourceNode extends Message {
  readonly scopes: ScopeNode[];
}

export interface ScopeNode extends Message {
  readonly metrics: MetricNode[];
}

/** The message of a metric, and where its data is. */
type MetricMessage = Message & Pick<MetricBlock, 'kind' | 'dataTagStart' | 'dataStart' | 'dataEnd'>;

export interface MetricNode extends MetricMessage {
  /** Its triples in `Plan.edits`: words [from, to). */
  readonly from: number;
  to: number;
  /** Number of its points, edited or not. */
  points: number;
  /** Number of points that are cut. */
  cuts: number;
  /** Points inserted between them: the ends of streams. */
  added: number;
}

/** Messages whose other fields are copied, with streams in their place; by hash. */
export type Groups = Map<string, Group>;

export interface Group extends Message {
  readonly reduction: Reduction;
  readonly scopes: Map<string, ScopeGroup>;
}

export interface ScopeGroup extends Message {
  readonly metrics: Map<string, MetricGroup>;
}

export interface MetricGroup extends MetricMessage {
  /** Of the resource that it is sent with. */
  readonly hash: Halves;
  /** Its streams are cumulative at the source and sent as deltas. */
  readonly asDelta: boolean;
  readonly streams: OutputStream[];
}

export class Plan {
  readonly #around: Around;
  readonly resources: ResourceNode[] = [];
  /** Triples, the first `editWords` words. */
  edits = new Int32Array(3 * 1024);
  editWords = 0;
  readonly groups: Groups = new Map();
  /** Streams whose points are deferred, each with messages of its own. */
  readonly held: { stream: OutputStream; groups: Groups }[] = [];

  constructor(around: Around) {
    this.#around = around;
  }

  /** Adds the edit of one point of the current metric. */
  edit(tagStart: number, end: number, action: number): void {
    const node = this.#around.metric.node ?? this.#open();
    if (action === CUT) {
      node.cuts++;
      const last = node.to - 3;
      if (last >= node.from && this.edits[last + 2] === CUT && this.edits[last + 1] === tagStart) {
        this.edits[last + 1] = end; // adjacent to the previous cut: extend that one
        return;
      }
    } else if (tagStart === end) node.added++;
    const at = this.editWords;
    if (at === this.edits.length) {
      const grown = new Int32Array(at * 2);
      grown.set(this.edits);
      this.edits = grown;
    }
    this.edits[at] = tagStart;
    this.edits[at + 1] = end;
    this.edits[at + 2] = action;
    node.to = this.editWords = at + 3;
  }

  /** Clears the plan for the next request. */
  clear(): void {
    if (this.editWords === 0) return;
    this.resources.length = 0;
    this.groups.clear();
    this.held.length = 0;
    this.editWords = 0;
    // One large request must not keep its memory allocated.
    if (this.edits.length > 3 * 65_536) this.edits = new Int32Array(3 * 1024);
  }

  #open(): MetricNode {
    const { resource, scope, metric } = this.#around;
    if (!resource.node) {
      resource.node = { ...messageOf(resource), scopes: [] };
      this.resources.push(resource.node);
    }
    if (!scope.node) {
      scope.node = { ...messageOf(scope), metrics: [] };
      resource.node.scopes.push(scope.node);
    }
    const at = this.editWords;
    metric.node = { ...metricMessageOf(metric), points: 0, cuts: 0, added: 0, from: at, to: at };
    scope.node.metrics.push(metric.node);
    return metric.node;
  }

  /** Adds a stream of the current metric whose point is deferred. */
  hold(stream: OutputStream): void {
    const groups: Groups = new Map();
    this.#groupIn(groups, stream, this.#around.resource).streams.push(stream);
    this.held.push({ stream, groups });
  }

  /** Adds a stream of the current metric to the group of the resource with this hash, which it is sent with. */
  group(stream: OutputStream, { lo, hi }: Halves): void {
    const { metric } = this.#around;
    // Streams of one metric usually stay together.
    const last = metric.group;
    const isSame = last?.hash.lo === lo && last.hash.hi === hi;
    const group = isSame ? last : (metric.group = this.#groupIn(this.groups, stream, { lo, hi }));
    group.streams.push(stream);
  }

  #groupIn(groups: Groups, { reduction, asDelta }: OutputStream, hash: Halves): MetricGroup {
    const { resource, scope, metric } = this.#around;
    const group = entry(groups, hash, () => ({ ...messageOf(resource), reduction, scopes: new Map() }));
    const scopeGroup = entry(group.scopes, scope, () => ({ ...messageOf(scope), metrics: new Map() }));
    return entry(scopeGroup.metrics, metric, () => ({
      ...metricMessageOf(metric),
      hash,
      asDelta,
      streams: [] as OutputStream[],
    }));
  }
}

function entry<T>(map: Map<string, T>, { lo, hi }: Halves, create: () => T): T {
  const key = `${lo},${hi}`;
  let found = map.get(key);
  if (!found) map.set(key, (found = create()));
  return found;
}

const messageOf = ({ tagStart, start, end }: Message): Message => ({ tagStart, start, end });

function metricMessageOf(metric: MetricBlock): MetricMessage {
  const { kind, dataTagStart, dataStart, dataEnd } = metric;
  return { ...messageOf(metric), kind, dataTagStart, dataStart, dataEnd };
}
