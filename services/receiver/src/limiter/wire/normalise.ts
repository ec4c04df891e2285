import { ATTRIBUTES_FIELD } from './metric-kind.ts';
import { Reader } from './reader.ts';

/**
 * Protobuf allows a message in several pieces: two `resource` fields are merged, and of two members of a oneof the last wins.
 * No SDK writes metrics like that, and the limiter does not support it. It checks first, and converts irregular requests to the
 * regular form with the same meaning by joining the pieces.
 */
const RESOURCE_METRICS = 1;
const CHILDREN = 2;

const outer = new Reader();
const middle = new Reader();
const inner = new Reader();

const isData = (field: number) => (ATTRIBUTES_FIELD[field] ?? 0) !== 0;

/** Whether every resource, scope and metric data of the request is in one piece. */
export function isRegular(body: Uint8Array): boolean {
  outer.open(body, 0, body.length);
  while (outer.next()) {
    if (outer.field !== RESOURCE_METRICS || outer.wire !== 2) continue;
    let resources = 0;
    middle.open(body, outer.start, outer.end);
    while (middle.next()) {
      if (middle.field === 1) resources++;
      else if (middle.field === CHILDREN && !isRegularScope(body, middle.start, middle.end)) return false;
    }
    if (resources > 1) return false;
  }
  return true;
}

const metricReader = new Reader();

function isRegularScope(body: Uint8Array, from: number, to: number): boolean {
  let scopes = 0;
  inner.open(body, from, to);
  while (inner.next()) {
    if (inner.field === 1) scopes++;
    if (inner.field !== CHILDREN) continue;
    let members = 0;
    metricReader.open(body, inner.start, inner.end);
    while (metricReader.next()) if (isData(metricReader.field)) members++;
    if (members > 1) return false;
  }
  return scopes <= 1;
}

/** The same request with every message in one piece. Allocates freely, since this is rare. */
export function normalise(body: Uint8Array): Uint8Array {
  return rewrite(body, (field, content) =>
    field === RESOURCE_METRICS ? joined(content, (scope) => joined(scope, metric)) : content,
  );
}

/** Joins the pieces of field 1 of a message and rewrites its children. */
function joined(message: Uint8Array, child: (content: Uint8Array) => Uint8Array): Uint8Array {
  const pieces: Uint8Array[] = [];
  const rest = rewrite(message, (field, content) => {
    if (field === 1) {
      pieces.push(content);
      return undefined;
    }
    return field === CHILDREN ? child(content) : content;
  });
  return pieces.length === 0 ? rest : Buffer.concat([delimited(1, Buffer.concat(pieces)), rest]);
}

/** A Metric with one member of its oneof: the last kind, in the pieces after the last one of another kind. */
function metric(message: Uint8Array): Uint8Array {
  let kind = 0;
  let pieces: Uint8Array[] = [];
  const rest = rewrite(message, (field, content) => {
    if (!isData(field)) return content;
    if (field !== kind) pieces = [];
    kind = field;
    pieces.push(content);
    return undefined;
  });
  return kind === 0 ? rest : Buffer.concat([rest, delimited(kind, Buffer.concat(pieces))]);
}

function rewrite(
  message: Uint8Array,
  change: (field: number, content: Uint8Array) => Uint8Array | undefined,
): Uint8Array {
  const chunks: Uint8Array[] = [];
  const reader = new Reader().open(message, 0, message.length);
  while (reader.next()) {
    const raw = message.subarray(reader.tagStart, reader.end);
    if (reader.wire !== 2) {
      chunks.push(raw);
      continue;
    }
    const content = message.subarray(reader.start, reader.end);
    const changed = change(reader.field, content);
    if (changed === content) chunks.push(raw);
    else if (changed) chunks.push(delimited(reader.field, changed));
  }
  return Buffer.concat(chunks);
}

function delimited(field: number, content: Uint8Array): Uint8Array {
  const head = [(field << 3) | 2];
  let length = content.length;
  for (; length >= 0x80; length = Math.floor(length / 0x80)) head.push((length % 0x80) | 0x80);
  head.push(length);
  return Buffer.concat([Buffer.from(head), content]);
}
