import { describe, expect, it } from 'vitest';
import { soundRequest } from './repair.ts';
import { inspect } from './walk.ts';

const ITEMS = 15_000;
/** When each of them was thrown it took two hundred times as long as to look at sound ones; now a twentieth of that. */
const MOST_TIMES_A_LOOK = 80;

/** A length-delimited field of up to 2 MiB. */
function field(number: number, content: Buffer): Buffer {
  const { byteLength } = content;
  const length = byteLength < 0x80 ? [byteLength] : [(byteLength & 0x7f) | 0x80, (byteLength >> 7) & 0x7f];
  if (byteLength >= 2 ** 14) length.splice(1, 1, (byteLength >> 7) | 0x80, byteLength >> 14);
  return Buffer.concat([Buffer.from([number * 8 + 2, ...length]), content]);
}

const spans = (span: Buffer) => field(1, field(2, Buffer.concat(Array<Buffer>(ITEMS).fill(span))));

function leastCpu(work: () => unknown): number {
  let least = Number.POSITIVE_INFINITY;
  for (let run = 0; run < 5; run++) {
    const before = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(before);
    least = Math.min(least, user + system);
  }
  return least;
}

describe('an error in all items of a request', () => {
  it.each([
    ['ids of a wrong length', field(2, Buffer.from([1])), 'span_id is not an id of 8 bytes'],
    ['names that are not UTF-8', field(5, Buffer.from([0xff])), 'name is not valid UTF-8'],
    [
      'attributes that are not UTF-8',
      field(9, field(1, Buffer.from([0xff]))),
      'attributes[0].key is not valid UTF-8',
    ],
  ])('%s: they are dropped cheaply, and the first is named', (_, span, said) => {
    const body = spans(field(2, span));
    const options = { invalidUtf8: 'reject_item' } as const;
    const { message, ...rest } = soundRequest('traces', body, options);
    expect(rest).toMatchObject({ items: 0, rejected: ITEMS });
    expect(message).toBe(
      `rejected ${ITEMS} spans; the first: resource_spans[0].scope_spans[0].spans[0].${said}`,
    );
    const sound = spans(field(2, field(5, Buffer.from('x'))));
    const look = leastCpu(() => inspect('traces', sound));
    expect(leastCpu(() => soundRequest('traces', body, options))).toBeLessThan(MOST_TIMES_A_LOOK * look);
  });
});
