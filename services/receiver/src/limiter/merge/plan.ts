import type { Reduction } from '../admission/metric-table.ts';
import type { MetricBlock, ResourceBlock, ScopeBlock } from '../blocks.ts';
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

export interface ResourceNode {
  readonly tagStart: number;
  readonly start: number;
  readonly end: number;
  readonly scopes: ScopeNode[];
}

export interface ScopeNode {
  readonly tagStart: number;
  readonly start: number;
  readonly end: number;
  readonly metrics: MetricNode[];
}

export interface MetricNode {
  readonly tagStart: number;
  readonly start: number;
  readonly end: number;
  readonly kind: number;
  readonly dataTagStart: number;
  readonly dataStart: number;
  readonly dataEnd: number;
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

export interface Group {
  /** The ResourceMetrics whose other fields are copied. */
  readonly start: number;
  readonly end: number;
  readonly reduction: Reduction;
  readonly scopes: Map<string, ScopeGroup>;
}

export interface ScopeGroup {
  readonly start: number;
  readonly end: number;
  readonly metrics: Map<string, MetricGroup>;
}

export interface MetricGroup {
  readonly start: number;
  readonly end: number;
  readonly kind: number;
  readonly dataStart: number;
  readonly dataEnd: number;
  /** Its streams are cumulative at the source and sent as deltas. */
  readonly asDelta: boolean;
  readonly streams: OutputStream[];
}

export class Plan {
  readonly resources: ResourceNode[] = [];
  /** Triples, the first `editWords` words. */
  edits = new Int32Array(3 * 1024);
  editWords = 0;
  readonly groups = new Map<string, Group>();
  /** Streams whose points are deferred, each with messages of its own. */
  readonly held: { stream: OutputStream; group: Group }[] = [];

  /** Adds the edit of one point of the current metric. */
  edit(
    resource: ResourceBlock,
    scope: ScopeBlock,
    metric: MetricBlock,
    tagStart: number,
    end: number,
    action: number,
  ): void {
    const node = metric.node ?? this.#open(resource, scope, metric);
    if (action === CUT) {
      node.cuts++;
      const last = node.to - 3;
      if (last >= node.from && this.edits[last + 2] === CUT && this.edits[last + 1] === tagStart) {
        this.edits[last + 1] = end; // adjacent to the previous cut: extend that one
        return;
      }
    } else if (tagStart === end) node.added++;
    const at = this.editWords;
    if (at === this.edits.length) this.#grow();
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

  #grow(): void {
    const grown = new Int32Array(this.edits.length * 2);
    grown.set(this.edits);
    this.edits = grown;
  }

  #open(resource: ResourceBlock, scope: ScopeBlock, metric: MetricBlock): MetricNode {
    if (!resource.node) {
      resource.node = { tagStart: resource.tagStart, start: resource.start, end: resource.end, scopes: [] };
      this.resources.push(resource.node);
    }
    if (!scope.node) {
      scope.node = { tagStart: scope.tagStart, start: scope.start, end: scope.end, metrics: [] };
      resource.node.scopes.push(scope.node);
    }
    const at = this.editWords;
    const { tagStart, start, end, kind, dataTagStart, dataStart, dataEnd } = metric;
    metric.node = {
      tagStart,
      start,
      end,
      kind,
      dataTagStart,
      dataStart,
      dataEnd,
      points: 0,
      cuts: 0,
      added: 0,
      from: at,
      to: at,
    };
    scope.node.metrics.push(metric.node);
    return metric.node;
  }

  /** Adds a stream of the current metric whose point is deferred. */
  hold(
    resource: ResourceBlock,
    scope: ScopeBlock,
    metric: MetricBlock,
    stream: OutputStream,
    asDelta: boolean,
  ): void {
    const { start, end, kind, dataStart, dataEnd } = metric;
    const metricGroup: MetricGroup = { start, end, kind, dataStart, dataEnd, asDelta, streams: [stream] };
    const scopeGroup: ScopeGroup = {
      start: scope.start,
      end: scope.end,
      metrics: new Map([['', metricGroup]]),
    };
    const group: Group = {
      start: resource.start,
      end: resource.end,
      reduction: stream.reduction,
      scopes: new Map([['', scopeGroup]]),
    };
    this.held.push({ stream, group });
  }

  /** The streams of the current metric under a resource that loses labels. */
  group(
    resource: ResourceBlock,
    scope: ScopeBlock,
    metric: MetricBlock,
    reduction: Reduction,
    reducedLo: number,
    reducedHi: number,
    asDelta: boolean,
  ): OutputStream[] {
    const resourceKey = `${reducedLo},${reducedHi}`;
    let group = this.groups.get(resourceKey);
    if (!group) {
      group = { start: resource.start, end: resource.end, reduction, scopes: new Map() };
      this.groups.set(resourceKey, group);
    }
    const scopeKey = `${scope.lo},${scope.hi}`;
    let scopeGroup = group.scopes.get(scopeKey);
    if (!scopeGroup) {
      scopeGroup = { start: scope.start, end: scope.end, metrics: new Map() };
      group.scopes.set(scopeKey, scopeGroup);
    }
    const metricKey = `${metric.lo},${metric.hi}`;
    let metricGroup = scopeGroup.metrics.get(metricKey);
    if (!metricGroup) {
      const { start, end, kind, dataStart, dataEnd } = metric;
      metricGroup = { start, end, kind, dataStart, dataEnd, asDelta, streams: [] };
      scopeGroup.metrics.set(metricKey, metricGroup);
    }
    return metricGroup.streams;
  }
}
