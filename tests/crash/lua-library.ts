/** The parts of Lua's and Redis' libraries that the scripts use. */
import { kind, LuaError, type LuaFunction, LuaTable, type LuaValue, text, toNumber, Values } from './lua.ts';

export function library(call: LuaFunction): LuaTable {
  return tableOf({
    tonumber: (value) => toNumber(value),
    tostring: (value) =>
      value === undefined ? 'nil' : typeof value === 'boolean' ? String(value) : text(value),
    type: (value) => kind(value),
    error: (value) => {
      throw new LuaError(value instanceof LuaTable ? text(value.get('err') as LuaValue) : text(value));
    },
    next: (table) => ((table as LuaTable).list.length > 0 ? 1 : (table as LuaTable).rest.keys().next().value),
    pcall: (f, ...args) => {
      try {
        const result = (f as LuaFunction)(...args);
        return Values.from([true, ...(result instanceof Values ? result : [result as LuaValue])]);
      } catch (error) {
        return Values.from([false, (error as Error).message]);
      }
    },
    redis: tableOf({
      call,
      pcall: (...args) => {
        try {
          return call(...args);
        } catch (error) {
          return tableOf({ err: (error as Error).message });
        }
      },
    }),
    math: tableOf({
      floor: (n) => Math.floor(n as number),
      min: (...all) => Math.min(...(all as number[])),
      max: (...all) => Math.max(...(all as number[])),
      huge: Number.POSITIVE_INFINITY,
    }),
    unpack: (table, from = 1, to = (table as LuaTable).list.length) =>
      Values.from((table as LuaTable).list.slice((from as number) - 1, to as number)),
    table: tableOf({
      insert: (t, at, value) => insert(t, at, value),
      concat: (t, between = '') => (t as LuaTable).list.map(text).join(text(between)),
    }),
    string: tableOf({ format, sub, find, match, byte }),
    cmsgpack: tableOf({ unpack: (value) => texts(Buffer.from(text(value), 'latin1')) }),
    cjson: tableOf({
      encode: (value) => encode(value),
      decode: (value) => decode(value),
    }),
  });
}

function tableOf(fields: Record<string, LuaFunction | LuaValue>): LuaTable {
  const table = new LuaTable();
  for (const [key, value] of Object.entries(fields)) table.set(key, value as LuaValue);
  return table;
}

function format(pattern: LuaValue, value: LuaValue): LuaValue {
  const n = toNumber(value);
  if (pattern !== '%.0f' || n === undefined)
    throw new LuaError(`string.format(${String(pattern)}, ${kind(value)}) is not known`);
  // C rounds halves to even, JavaScript up.
  const floor = Math.floor(n);
  const rounded = n - floor === 0.5 ? floor + (floor % 2 === 0 ? 0 : 1) : Math.round(n);
  return BigInt(rounded).toString();
}

function sub(value: LuaValue, from: LuaValue, to: LuaValue = -1): LuaValue {
  const s = text(value);
  const at = (n: number) => (n < 0 ? Math.max(s.length + n + 1, 0) : n);
  return s.slice(Math.max(1, at(from as number)) - 1, at(to as number));
}

function find(value: LuaValue, pattern: LuaValue, start: LuaValue, plain: LuaValue): LuaValue {
  if (plain !== true || start !== 1) throw new LuaError('string.find with a pattern is not known');
  const at = text(value).indexOf(text(pattern));
  return at < 0 ? undefined : at + 1;
}

const PATTERNS = new Map([
  ['(%d+):(%d+):(%d+)', /(\d+):(\d+):(\d+)/],
  ['^(%d+) (%d+)$', /^(\d+) (\d+)$/],
  ['^%d+$', /^(\d+)$/],
]);

function match(value: LuaValue, pattern: LuaValue): unknown {
  const known = PATTERNS.get(String(pattern));
  if (!known) throw new LuaError(`string.match with ${String(pattern)} is not known`);
  const found = known.exec(text(value));
  return found ? Values.from(found.slice(1)) : undefined;
}

function byte(value: LuaValue, from: LuaValue, to: LuaValue): unknown {
  return Values.from([...text(sub(value, from, to))].map((char) => char.charCodeAt(0)));
}

/** A MessagePack array of texts, which is all that scripts are given. */
function texts(packed: Buffer): LuaTable {
  if (packed[0] !== 0xdd)
    throw new LuaError(`a MessagePack value that begins with ${packed[0]} is not known`);
  const all: string[] = [];
  let at = 5;
  for (let left = packed.readUInt32BE(1); left > 0; left--) {
    const head = packed[at]!;
    // The length of a short text is in the low bits of its first byte; of others it follows.
    const isShort = head >= 0xa0 && head < 0xc0;
    const bytes = isShort ? 0 : { 217: 1, 218: 2, 219: 4 }[head];
    if (bytes === undefined) throw new LuaError(`a MessagePack text that begins with ${head} is not known`);
    const from = at + 1 + bytes;
    at = from + (isShort ? head & 0x1f : packed.readUIntBE(at + 1, bytes));
    all.push(packed.toString('latin1', from, at));
  }
  return LuaTable.of(all);
}

/** As lua-cjson: a table with the keys 1 to n is an array, an empty one an object; numbers have 14 digits. */
function encode(value: LuaValue): string {
  if (value instanceof LuaTable) {
    const { list, rest } = value;
    if (list.length > 0 && rest.size === 0) return `[${list.map(encode).join(',')}]`;
    const fields = [...list.map((v, i) => [i + 1, v] as const), ...rest];
    return `{${fields.map(([key, v]) => `${JSON.stringify(text(key as LuaValue))}:${encode(v)}`).join(',')}}`;
  }
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'boolean') return String(value);
  if (value === undefined) return 'null';
  return text(value);
}

function decode(value: LuaValue): LuaValue {
  try {
    return fromJson(JSON.parse(text(value)));
  } catch (error) {
    throw new LuaError((error as Error).message);
  }
}

function fromJson(value: unknown): LuaValue {
  if (Array.isArray(value)) return LuaTable.of(value.map(fromJson));
  if (value === null) throw new LuaError('cjson.null is not known');
  if (typeof value !== 'object') return value as LuaValue;
  const table = new LuaTable();
  for (const [key, field] of Object.entries(value)) table.set(key, fromJson(field));
  return table;
}

function insert(table: LuaValue, at: LuaValue, value: LuaValue): LuaValue {
  (table as LuaTable).list.splice((at as number) - 1, 0, value);
  return undefined;
}
