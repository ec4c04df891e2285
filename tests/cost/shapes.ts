/** Requests that are much of one thing. */
import type { Signal } from '@nrdot/otlp';

export type Walked = Exclude<Signal, 'profiles'>;
export const WALKED: readonly Walked[] = ['traces', 'metrics', 'logs'];

/** A length-delimited field. */
export function field(number: number, ...contents: Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  return Buffer.concat([varint(number * 8 + 2), varint(content.byteLength), content]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Buffer.from([...bytes, rest]);
}

const text = (value: string) => Buffer.from(value);
const times = (n: number, make: (i: number) => Buffer) =>
  Buffer.concat(Array.from({ length: n }, (_, i) => make(i)));
const attribute = (number: number, key: string, value: string) =>
  field(number, field(1, text(key)), field(2, field(1, text(value))));
const POINT_ATTRIBUTES = 7;
const ATTRIBUTES = { traces: 9, metrics: POINT_ATTRIBUTES, logs: 6 } as const;
const LINKS = { traces: 13, metrics: 5, logs: 13 } as const;
const NAME = { traces: 5, metrics: 1, logs: 12 } as const;

/** An item whose name is of one class or the other by turns. */
function item(signal: Walked, i: number, ...more: Buffer[]): Buffer {
  const name = field(NAME[signal], text(i % 2 ? 'system.a' : 'b'));
  if (signal === 'metrics')
    return field(2, name, field(5, field(1, Buffer.from([0x31, ...text('12345678')]), ...more)));
  return field(2, name, ...more);
}

const request = (...parts: Buffer[]) => field(1, ...parts);

export const SHAPES: Readonly<Record<string, (signal: Walked, n: number) => Buffer>> = {
  resources: (s, n) =>
    times(n, (i) => request(field(1, attribute(1, 'service.name', `s${i}`)), field(2, item(s, i)))),
  'empty resources': (_, n) => times(n, () => request()),
  'scopes of both classes by turns': (s, n) => request(times(n, (i) => field(2, item(s, i)))),
  'items of both classes by turns': (s, n) =>
    request(
      field(
        2,
        times(n, (i) => item(s, i)),
      ),
    ),
  'items that are empty': (_, n) =>
    request(
      field(
        2,
        times(n, () => field(2)),
      ),
    ),
  'the name of an item, again and again': (s, n) =>
    request(
      field(
        2,
        item(s, 1),
        field(
          2,
          times(n, () => field(NAME[s], text('x'))),
          field(5, field(1)),
        ),
      ),
    ),
  'attributes of an item': (s, n) =>
    request(
      field(
        2,
        item(
          s,
          1,
          times(n, (i) => attribute(ATTRIBUTES[s], `k${i}`, `v${i}`)),
        ),
      ),
    ),
  'links or exemplars of an item': (s, n) =>
    request(
      field(
        2,
        item(
          s,
          1,
          times(n, () => Buffer.concat([field(LINKS[s]), field(100)])),
        ),
      ),
    ),
  'one attribute of an item, again and again': (s, n) =>
    request(
      field(
        2,
        item(
          s,
          1,
          times(n, (i) => attribute(ATTRIBUTES[s], 'k', `v${i}`)),
        ),
      ),
    ),
  'attributes of a resource': (s, n) =>
    request(
      field(
        1,
        times(n, (i) => attribute(1, `k${i}`, `v${i}`)),
      ),
      field(2, item(s, 1), item(s, 2)),
    ),
  'pieces of a resource': (s, n) =>
    request(
      times(n, (i) => field(1, attribute(1, `k${i}`, 'v'))),
      field(2, item(s, 1), item(s, 2)),
    ),
  'pieces of a scope': (s, n) =>
    request(
      field(
        2,
        times(n, (i) => field(1, field(1, text(`n${i}`)))),
        item(s, 1),
        item(s, 2),
      ),
    ),
  'unknown fields everywhere': (s, n) =>
    request(
      times(n, () => field(30, text('x'))),
      field(
        2,
        times(n, () => field(30, text('x'))),
        item(
          s,
          1,
          times(n, () => field(30, text('x'))),
        ),
        item(s, 2),
      ),
    ),
  'a long name': (s, n) =>
    request(field(2, field(2, field(NAME[s], Buffer.alloc(n * 16, 'token'))), item(s, 1))),
  'a long value': (s, n) =>
    request(field(2, item(s, 1, attribute(ATTRIBUTES[s], 'k', 'token'.repeat(n * 4))), item(s, 2))),
  'elements of a value': (s, n) =>
    request(
      field(
        2,
        item(
          s,
          1,
          field(
            ATTRIBUTES[s],
            field(1, text('k')),
            field(
              2,
              field(
                5,
                times(n, () => field(1, field(1, text('token')))),
              ),
            ),
          ),
        ),
        item(s, 2),
      ),
    ),
};

/** What only metrics have. */
const METRIC_SHAPES: Readonly<Record<string, (n: number) => Buffer>> = {
  'points of one metric': (n) =>
    request(
      field(
        2,
        field(
          2,
          field(1, text('m')),
          field(
            5,
            times(n, (i) => field(1, attribute(7, 'k', `v${i}`))),
          ),
        ),
      ),
    ),
  'cumulative points of one metric': (n) =>
    request(
      field(
        2,
        field(
          2,
          field(1, text('m')),
          field(
            7,
            times(n, (i) => field(1, attribute(7, 'k', `v${i}`))),
            Buffer.from([0x10, 2, 0x18, 1]),
          ),
        ),
      ),
    ),
  'metrics, each of its own name': (n) =>
    request(
      field(
        2,
        times(n, (i) => field(2, field(1, text(`metric-${i}`)), field(5, field(1)))),
      ),
    ),
  'exemplars of a point': (n) =>
    request(
      field(
        2,
        field(
          2,
          field(1, text('m')),
          field(
            5,
            field(
              1,
              times(n, () => field(5, field(4, text('12345678')))),
            ),
          ),
        ),
      ),
    ),
  'buckets of a histogram': (n) =>
    request(
      field(
        2,
        field(
          2,
          field(1, text('m')),
          field(
            9,
            field(1, field(6, Buffer.alloc(8 * (n + 1))), field(7, doubles(n))),
            Buffer.from([0x10, 2]),
          ),
        ),
      ),
    ),
  'pieces of the data of a metric': (n) =>
    request(
      field(
        2,
        field(
          2,
          field(1, text('m')),
          times(n, (i) => field(5, field(1, attribute(7, 'k', `${i}`)))),
        ),
      ),
    ),
};

function doubles(n: number): Buffer {
  const bytes = Buffer.alloc(8 * n);
  for (let i = 0; i < n; i++) bytes.writeDoubleLE(i, 8 * i);
  return bytes;
}

/** All of them for one signal. */
export function shapesOf(signal: Walked): [name: string, make: (n: number) => Buffer][] {
  return [
    ...Object.entries(SHAPES).map(([name, make]): [string, (n: number) => Buffer] => [
      name,
      (n) => make(signal, n),
    ]),
    ...(signal === 'metrics' ? Object.entries(METRIC_SHAPES) : []),
  ];
}

/** The shape, repeated until it is so large. */
export function ofBytes(make: (n: number) => Buffer, bytes: number): Buffer {
  const n = Math.floor((1_000 * bytes) / make(1_000).byteLength);
  // Where each has a number of its own, many are larger than a thousand times one of a thousand.
  return make(Math.floor((n * bytes) / Math.max(bytes, make(n).byteLength)));
}
