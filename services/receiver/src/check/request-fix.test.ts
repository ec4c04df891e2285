import { walk } from '@nrdot/otlp';
import { encodeProtobuf, type Message, NEW_RELIC_RULES, readAsNewRelic, seededRandom } from '@nrdot/testbed';
import { describe, expect, it } from 'vitest';
import { RequestFix } from './request-fix.ts';
import { CHECK_RULE_NAMES } from './rules.ts';
import { anyRequest, NOW_MS, named, type Signal, text } from './test/any-request.ts';

const SIGNALS = ['traces', 'metrics', 'logs'] as const;
const bytesOf = (signal: Signal, request: Message) => Buffer.from(encodeProtobuf(signal, request).bytes);
const fixed = (signal: Signal, body: Buffer) => new RequestFix().fix(signal, body);

/** By rule, what the reading of the mock upstream finds. */
function found(signal: Signal, body: Buffer): Record<string, number> {
  const counts: Record<string, number> = {};
  readAsNewRelic(signal, body, NOW_MS, (rule) => {
    counts[rule] = (counts[rule] ?? 0) + 1;
  });
  return counts;
}

// biome-ignore lint/suspicious/noExplicitAny: messages of any kind
type Any = any;

/** The same request as the rules leave it, made of objects. */
function asLeft(request: Message): Message {
  const attributes = (all: Any[] | undefined, limit: number, metric?: string) =>
    all
      ?.filter(({ key, value }) => {
        if (metric !== undefined && metric !== '' && key === metric) return false;
        if (value?.kvlistValue || value?.bytesValue?.length > 128_000) return false;
        const entries: Any[] | undefined = value?.arrayValue?.values;
        if (!entries) return true;
        const kinds = new Set(entries.flatMap((entry) => Object.keys(entry)));
        return (
          entries.length <= 64 && kinds.size <= 1 && !kinds.has('arrayValue') && !kinds.has('kvlistValue')
        );
      })
      .slice(0, limit)
      .map(({ key, value }) => ({
        key: key.slice(0, 255),
        value: value.stringValue === undefined ? value : { stringValue: value.stringValue.slice(0, 4_095) },
      }));
  const owner = (of: Any, limit: number, metric?: string) => {
    const { exemplars: _, links: __, ...rest } = of;
    return { ...rest, attributes: attributes(of.attributes, limit, metric) };
  };
  const metric = (of: Any) =>
    Object.fromEntries(
      Object.entries<Any>(of).map(([key, data]) => [
        key,
        data?.dataPoints
          ? { ...data, dataPoints: data.dataPoints.map((point: Any) => owner(point, 64, of.name)) }
          : data,
      ]),
    );
  const [[name, resources]] = Object.entries<Any>(request) as [[string, Any[]]];
  return {
    [name]: resources.map((one) => {
      const [scopesName] = Object.keys(one).filter((key) => key.startsWith('scope'));
      return {
        resource: owner(one.resource, 64),
        [scopesName!]: one[scopesName!].map(({ scope, ...items }: Any) => {
          const [[itemsName, all]] = Object.entries<Any>(items) as [[string, Any[]]];
          const item = (of: Any) =>
            itemsName === 'metrics' ? metric(of) : owner(of, itemsName === 'spans' ? 254 : 255);
          return { scope: owner(scope, 8), [itemsName]: all.map(item) };
        }),
      };
    }),
  } as Message;
}

describe('a request that is fixed before the backend would prune or shorten it', () => {
  it('is byte for byte what the rules leave, and an independent reader finds nothing more to prune', () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    const random = seededRandom(seed);
    for (let round = 0; round < 400; round++) {
      for (const signal of SIGNALS) {
        const request = anyRequest(signal, random);
        const body = bytesOf(signal, request);
        const where = `seed ${seed}, round ${round}, ${signal}`;
        const { body: out, counts } = fixed(signal, body);
        expect(out.equals(bytesOf(signal, asLeft(request))), where).toBe(true);
        expect(out === body, where).toBe(counts === undefined);
        expect(walk(signal, out).items, where).toBe(walk(signal, body).items);
        const left = Object.keys(found(signal, out)) as (keyof typeof NEW_RELIC_RULES)[];
        expect(
          left.filter((rule) => NEW_RELIC_RULES[rule] !== 'dropped'),
          where,
        ).toEqual([]);
        expect(fixed(signal, out).body, where).toBe(out);
      }
    }
  });

  it('counts items by rule; a violation in a resource counts for each of its items', () => {
    const request = {
      resourceLogs: [
        {
          resource: { attributes: [named('note', text('n'.repeat(5_000)))] },
          scopeLogs: [
            {
              logRecords: [
                {},
                { attributes: [named('map', { kvlistValue: { values: [] } }), named('ok', text('v'))] },
              ],
            },
          ],
        },
      ],
    };
    const { counts } = fixed('logs', bytesOf('logs', request));
    const byRule = Object.fromEntries(CHECK_RULE_NAMES.map((rule, place) => [rule, counts![place]!]));
    expect(Object.entries(byRule).filter(([, items]) => items > 0)).toEqual([
      ['attribute_type', 1],
      ['attribute_value', 2],
    ]);
  });

  it('keeps all other bytes, in any order, known or unknown', () => {
    const field = (number: number, ...parts: Uint8Array[]) => {
      const content = Buffer.concat(parts);
      // A length that takes more bytes than it needs is valid.
      return Buffer.concat([
        Buffer.from([number * 8 + 2, 0x80 | (content.length & 0x7f), 0x80 | (content.length >> 7), 0]),
        content,
      ]);
    };
    const unknown = Buffer.from([15 * 8, 0xff, 0x01]);
    const attribute = (key: string, value: string) =>
      field(1, field(1, Buffer.from(key)), unknown, field(2, field(1, Buffer.from(value)), unknown));
    const scopes = field(2, unknown, field(2, unknown), unknown);
    const resource = (value: string) =>
      field(1, unknown, attribute('a', value), attribute('b', 'x'), unknown);
    const body = field(1, scopes, unknown, resource('v'.repeat(4_100)));
    const { body: out } = fixed('logs', body);
    // Lengths around what was cut are written anew, all others stay.
    const cut = Buffer.concat([Buffer.from([10, 0xff, 0x1f]), Buffer.from('v'.repeat(4_095))]);
    expect(out.includes(Buffer.concat([cut, unknown]))).toBe(true);
    expect(out.includes(Buffer.concat([unknown, attribute('b', 'x'), unknown]))).toBe(true);
    expect(out.includes(Buffer.concat([scopes, unknown]))).toBe(true);
    expect(walk('logs', out).items).toBe(1);
    expect(fixed('logs', field(1, scopes, resource('v'))).counts).toBeUndefined();
  });

  it('keeps the order if a resource or scope stands between or after its items', () => {
    const field = (number: number, ...parts: Uint8Array[]) => {
      const content = Buffer.concat(parts);
      const length =
        content.length < 128 ? [content.length] : [(content.length % 128) | 128, content.length >> 7];
      return Buffer.concat([Buffer.from([number * 8 + 2, ...length]), content]);
    };
    const key = (value: string) => field(1, Buffer.from(value));
    const map = (owner: number) => field(owner, key('map'), field(2, field(6)));
    const plain = (owner: number) => field(owner, key('k'), field(2, field(1, Buffer.from('v'))));
    const make = (bad: boolean) => {
      const out = (part: Buffer) => (bad ? part : Buffer.alloc(0));
      const span = field(2, out(field(13)), key('a'), out(field(13)), plain(9), out(map(9)));
      const scope = field(1, out(map(3)), key('s'), out(map(3)), plain(3));
      const scopeSpans = field(2, span, scope, span, span, scope);
      const resource = field(1, out(map(1)), plain(1), out(map(1)));
      return field(1, scopeSpans, resource, scopeSpans, resource, resource, scopeSpans);
    };
    const body = Buffer.concat([make(true), make(true)]);
    expect(fixed('traces', body).body).toEqual(Buffer.concat([make(false), make(false)]));
  });

  it('splits no character, and counts those beyond the first plane as two', () => {
    for (const [value, kept] of [
      ['x'.repeat(4_094) + '😀'.repeat(2), 4_094],
      ['😀'.repeat(2_048), 4_094],
      ['é'.repeat(4_096), 4_095],
      ['€'.repeat(4_095), 4_095],
    ] as const) {
      const of = (stringValue: string) =>
        bytesOf('logs', {
          resourceLogs: [{ scopeLogs: [{ logRecords: [{ attributes: [named('k', text(stringValue))] }] }] }],
        });
      expect(fixed('logs', of(value)).body.equals(of(value.slice(0, kept)))).toBe(true);
    }
  });

  it('keeps the attributes that identify an entity if a resource has too many', () => {
    const resource = (names: string[]) => ({
      resourceSpans: [
        {
          resource: { attributes: names.map((name) => named(name, text('v'))) },
          scopeSpans: [{ spans: [{ name: 'GET' }] }],
        },
      ],
    });
    const more = Array.from({ length: 80 }, (_, n) => `label.${n}`);
    const names = [...more.slice(0, 70), 'service.name', ...more.slice(70), 'host.id'];
    const kept = [...more.slice(0, 62), 'service.name', 'host.id'];
    expect(fixed('traces', bytesOf('traces', resource(names))).body).toEqual(
      bytesOf('traces', resource(kept)),
    );
  });

  it('produces valid requests from everything that passes the walk', () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    const random = seededRandom(seed);
    let walked = 0;
    for (let round = 0; round < 3_000; round++) {
      const signal = SIGNALS[round % 3]!;
      const body = bytesOf(signal, anyRequest(signal, random));
      for (let n = 0; n < 3 && body.byteLength > 0; n++)
        body[Math.floor(random() * Math.min(body.byteLength, 400))] = Math.floor(random() * 256);
      let items: number;
      try {
        ({ items } = walk(signal, body));
      } catch {
        continue;
      }
      walked++;
      expect(walk(signal, fixed(signal, body).body).items, `seed ${seed}, round ${round}`).toBe(items);
    }
    expect(walked).toBeGreaterThan(100);
  });
});
