import { MESSAGES } from './schema.ts';

/**
 * The path to a position in a request, for people: `resource_spans[0].scope_spans[2].spans[1].name`. Reads everything before
 * that position, so it is for single messages only.
 * @param target a byte of the field's tag or length
 * @param root message type of the body, by index
 */
export function pathTo(target: number, root: number, body: Uint8Array): string {
  let message = root;
  let pos = 0;
  let end = body.byteLength;
  const path: string[] = [];
  descend: while (true) {
    const seen = new Map<number, number>();
    while (pos < end) {
      const tag = varintAt(body, pos, end);
      if (!tag) break;
      const number = Math.floor(tag.value / 8);
      const field = MESSAGES[message]!.byNumber.get(number);
      const index = seen.get(number) ?? 0;
      seen.set(number, index + 1);
      const label = field ? (field.repeated ? `${field.name}[${index}]` : field.name) : `field ${number}`;
      const stop = fieldEnd(body, tag.end, end, tag.value % 8);
      if (pos >= target || stop === undefined || target < stop.end) {
        path.push(label);
        if (field && field.child >= 0 && stop && target >= stop.start) {
          message = field.child;
          pos = stop.start;
          end = stop.end;
          continue descend;
        }
        return path.join('.');
      }
      pos = stop.end;
    }
    return path.join('.') || 'the request';
  }
}

function varintAt(body: Uint8Array, at: number, end: number): { value: number; end: number } | undefined {
  let value = 0;
  let factor = 1;
  for (let pos = at; pos < end && pos < at + 10; pos++) {
    value += (body[pos]! & 0x7f) * factor;
    if (body[pos]! < 0x80) return { value, end: pos + 1 };
    factor *= 128;
  }
  return undefined;
}

function fieldEnd(
  body: Uint8Array,
  at: number,
  end: number,
  wireType: number,
): { start: number; end: number } | undefined {
  if (wireType === 1) return { start: at, end: at + 8 };
  if (wireType === 5) return { start: at, end: at + 4 };
  const varint = varintAt(body, at, end);
  if (!varint) return undefined;
  if (wireType === 0) return { start: at, end: varint.end };
  if (wireType !== 2 || varint.end + varint.value > end) return undefined;
  return { start: varint.end, end: varint.end + varint.value };
}
