import { fromBinary, toJson } from '@bufbuild/protobuf';
import { referenceRequest } from './reference.ts';

export interface ReadPoint {
  resource: Record<string, string>;
  name: string;
  unit: string;
  kind: 'gauge' | 'sum' | 'histogram';
  /** 1: delta, 2: cumulative, 0: neither. */
  temporality: number;
  isMonotonic: boolean;
  startMs: number;
  timeMs: number;
  attributes: Record<string, string>;
  value: number;
  count: number;
  bucketCounts: number[];
  bounds: number[];
}

type Json = Record<string, unknown>;

/** Every point of an export request of metrics, as a parser has it that is not the product's. */
export function readPoints(body: Uint8Array): ReadPoint[] {
  const type = referenceRequest('metrics');
  const request = toJson(type, fromBinary(type, body)) as Json;
  return list(request, 'resourceMetrics').flatMap((ofResource) => {
    const resource = attributes(ofResource.resource as Json);
    const metrics = list(ofResource, 'scopeMetrics').flatMap((scope) => list(scope, 'metrics'));
    return metrics.flatMap((metric) => {
      const kind = (['gauge', 'sum', 'histogram'] as const).find((name) => metric[name] !== undefined)!;
      const data = metric[kind] as Json;
      return list(data, 'dataPoints').map((point) => ({
        ...{ resource, kind, name: String(metric.name), unit: String(metric.unit ?? '') },
        temporality: Number(data.aggregationTemporality ?? 0),
        isMonotonic: data.isMonotonic === true,
        startMs: Number(BigInt(String(point.startTimeUnixNano ?? 0)) / 1_000_000n),
        timeMs: Number(BigInt(String(point.timeUnixNano ?? 0)) / 1_000_000n),
        attributes: attributes(point),
        value: Number((kind === 'histogram' ? point.sum : point.asDouble) ?? 0),
        count: Number(point.count ?? 0),
        bucketCounts: ((point.bucketCounts ?? []) as unknown[]).map(Number),
        bounds: ((point.explicitBounds ?? []) as unknown[]).map(Number),
      }));
    });
  });
}

function list(of: Json, name: string): Json[] {
  return (of[name] ?? []) as Json[];
}

function attributes(of: Json): Record<string, string> {
  return Object.fromEntries(
    list(of, 'attributes').map(({ key, value }) => [String(key), String(Object.values(value as Json)[0])]),
  );
}
