import protobuf from 'protobufjs';
import { describe, expect, it } from 'vitest';
import { type MetricData, request } from '../test/otlp.ts';
import { ruledRig } from '../test/rig.ts';

/** Resources with the entities they belong to, and with fields that the limiter has never heard of. */
const Request = protobuf
  .parse(`
syntax = "proto3";
message Request { repeated ResourceMetrics resource_metrics = 1; }
message ResourceMetrics { Resource resource = 1; repeated bytes scope_metrics = 2; }
message Resource { repeated KeyValue attributes = 1; uint32 dropped_attributes_count = 2; repeated EntityRef entity_refs = 3;
  string later = 15; }
message KeyValue { string key = 1; AnyValue value = 2; }
message AnyValue { string string_value = 1; }
message EntityRef { string schema_url = 1; string type = 2; repeated string id_keys = 3; repeated string description_keys = 4;
  string later = 9; }
`)
  .root.resolveAll()
  .lookupType('Request');

interface EntityRef {
  schemaUrl?: string;
  type: string;
  idKeys: string[];
  descriptionKeys?: string[];
  later?: string;
}

const METRIC: MetricData = {
  name: 'requests',
  kind: 'sum',
  temporality: 1,
  monotonic: true,
  points: [{ labels: { route: '/' }, int: 1n, start: 1n, time: 2n }],
};

/** The resource of a point whose metric has lost the labels `pod` and `node`. */
function resourceAfter(
  entityRefs: EntityRef[],
  more: object = {},
): protobuf.Message & Record<string, unknown> {
  const { limiter } = ruledRig(['requests'], ['resource:pod', 'resource:node']);
  const outer = Request.toObject(Request.decode(request([METRIC])));
  const attributes = ['service', 'pod', 'node', 'version'].map((key) => ({
    key,
    value: { stringValue: `this ${key}` },
  }));
  const resource = { attributes, entityRefs, ...more };
  const { scopeMetrics } = outer.resourceMetrics[0];
  const body = Request.encode(Request.fromObject({ resourceMetrics: [{ resource, scopeMetrics }] })).finish();
  const out = Request.toObject(Request.decode(limiter.process(body).body));
  expect(out.resourceMetrics).toHaveLength(1);
  return out.resourceMetrics[0].resource;
}

const service: EntityRef = { schemaUrl: 'https://example.org/s', type: 'service', idKeys: ['service'] };

describe('a resource that loses labels', () => {
  it('keeps references to entities that do not use them, and everything else', () => {
    const refs = [
      { ...service, descriptionKeys: ['version'], later: 'of the reference' },
      { type: 'pods', idKeys: ['service', 'version'] },
    ];
    const after = resourceAfter(refs, { droppedAttributesCount: 3, later: 'of the resource' });
    expect(after).toEqual({
      attributes: ['service', 'version'].map((key) => ({ key, value: { stringValue: `this ${key}` } })),
      droppedAttributesCount: 3,
      entityRefs: refs,
      later: 'of the resource',
    });
  });

  it('is no longer described by them', () => {
    const refs = [
      { ...service, descriptionKeys: ['pod', 'version', 'node'], later: 'x' },
      { type: 'other', idKeys: ['service'], descriptionKeys: ['node'] },
    ];
    expect(resourceAfter(refs).entityRefs).toEqual([
      { ...service, descriptionKeys: ['version'], later: 'x' },
      { type: 'other', idKeys: ['service'] },
    ]);
  });

  it('loses an entity that one of them identifies: without the key it would be another entity', () => {
    const refs = [
      { type: 'k8s.pod', idKeys: ['pod'], descriptionKeys: ['version'] },
      service,
      { type: 'both', idKeys: ['service', 'node'] },
      { type: 'last', idKeys: ['version'] },
    ];
    expect(resourceAfter(refs).entityRefs).toEqual([service, { type: 'last', idKeys: ['version'] }]);
    expect(resourceAfter([{ type: 'host', idKeys: ['node'] }]).entityRefs).toBeUndefined();
  });
});
