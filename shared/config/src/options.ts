import * as z from 'zod';
import { Secret } from './secret.ts';
import { parseDuration, parseListen, parseSize } from './units.ts';

/** Documentation of an option, for the reference page. */
export interface OptionMeta {
  doc: string;
  /** Format of the value. */
  kind: string;
  /** As written in the file; undefined if there is none. */
  default?: unknown;
  /** Changes take effect without a restart. */
  live?: boolean;
}

export interface Extra {
  live?: boolean;
}

function described<T extends z.ZodType>(schema: T, meta: OptionMeta): T {
  return schema.meta({ ...meta }) as T;
}

function parsed<T>(kind: string, expected: string, parse: (value: unknown) => T | undefined) {
  return (written: unknown, doc: string, extra: Extra = {}) => {
    const schema = z.unknown().transform((value, context): T => {
      const result = parse(value);
      if (result !== undefined) return result;
      context.addIssue({ code: 'custom', message: expected });
      return z.NEVER;
    });
    return described(schema.prefault(written as never), { doc, kind, default: written, ...extra });
  };
}

export const size = parsed('size', 'a size such as 128MiB, 4MB or 1048576', (v) => {
  const bytes = parseSize(v);
  return bytes !== undefined && bytes > 0 ? bytes : undefined;
});
/** A size without a default. */
export function optionalSize(doc: string, extra: Extra = {}) {
  const expected = 'a size such as 128MiB, 4MB or 1048576';
  const schema = z.unknown().transform((value, context): number => {
    const bytes = parseSize(value);
    if (bytes !== undefined && bytes > 0) return bytes;
    context.addIssue({ code: 'custom', message: expected });
    return z.NEVER;
  });
  return described(schema.optional(), { doc, kind: 'size', ...extra });
}

export const rate = parsed('size per second', 'a size per second such as 4MiB', (v) => {
  const bytes = parseSize(typeof v === 'string' ? v.replace(/\/s$/, '') : v);
  return bytes !== undefined && bytes > 0 ? bytes : undefined;
});
/** Maximum time of a timer in Node. */
const TIMER_MAX_MS = 2 ** 31 - 1;
export const duration = parsed('duration', 'a duration such as 500ms, 30s or 72h, at most 24d', (v) => {
  const ms = parseDuration(v);
  return ms !== undefined && ms > 0 && ms <= TIMER_MAX_MS ? ms : undefined;
});
/** Interval of a repeated action; 0 for at once. */
export const interval = parsed('duration', '0s, or a duration from 1s to 1h such as 10s', (v) => {
  const ms = parseDuration(v);
  return ms !== undefined && (ms === 0 || (ms >= 1_000 && ms <= 3_600_000)) ? ms : undefined;
});
/** Interval of a repeated action. */
export const period = parsed('duration', 'a duration from 1s to 1h such as 60s', (v) => {
  const ms = parseDuration(v);
  return ms !== undefined && ms >= 1_000 && ms <= 3_600_000 ? ms : undefined;
});
export const age = parsed('duration', 'a duration such as 72h or 30d', (v) => {
  const ms = parseDuration(v);
  return ms !== undefined && ms > 0 ? ms : undefined;
});
/** An age without a default. */
export function optionalAge(doc: string) {
  const expected = 'a duration such as 72h or 30d';
  const schema = z.unknown().transform((value, context): number => {
    const ms = parseDuration(value);
    if (ms !== undefined && ms > 0) return ms;
    context.addIssue({ code: 'custom', message: expected });
    return z.NEVER;
  });
  return described(schema.optional(), { doc, kind: 'duration' });
}
export const listen = parsed('host:port', 'an address such as 127.0.0.1:4318', parseListen);

/** Values from the environment are strings, also for numbers and booleans. */
function fromText<T extends z.ZodType>(schema: T) {
  return z.preprocess((value) => {
    if (typeof value !== 'string') return value;
    if (value === 'true' || value === 'false') return value === 'true';
    return /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value;
  }, schema);
}

export function count(written: number, doc: string, extra: Extra & { min?: number; max?: number } = {}) {
  const { min = 1, max = 1_000_000_000, ...rest } = extra;
  const error = `a whole number from ${min} to ${max}`;
  return described(
    fromText(z.number({ error }).int({ error }).min(min, { error }).max(max, { error })).prefault(written),
    {
      doc,
      kind: 'number',
      default: written,
      ...rest,
    },
  );
}

/** A count without a default. */
export function optionalCount(doc: string, extra: Extra = {}) {
  const error = `a whole number from 1 to ${Number.MAX_SAFE_INTEGER}`;
  return described(fromText(z.number({ error }).int({ error }).min(1, { error }).optional()), {
    doc,
    kind: 'number',
    ...extra,
  });
}

export function ratio(written: number, doc: string, extra: Extra = {}) {
  const error = 'a number from 0 to 1';
  return described(fromText(z.number({ error }).min(0, { error }).max(1, { error })).prefault(written), {
    doc,
    kind: '0 to 1',
    default: written,
    ...extra,
  });
}

export function factor(written: number, doc: string) {
  const error = 'a number of at least 1';
  return described(fromText(z.number({ error }).min(1, { error }).max(100, { error })).prefault(written), {
    doc,
    kind: 'number',
    default: written,
  });
}

export function flag(written: boolean, doc: string, extra: Extra = {}) {
  return described(fromText(z.boolean({ error: 'true or false' })).prefault(written), {
    doc,
    kind: 'true or false',
    default: written,
    ...extra,
  });
}

export function choice<const T extends readonly [string, ...string[]]>(
  values: T,
  written: T[number],
  doc: string,
  extra: Extra = {},
) {
  const error = `one of ${values.join(', ')}`;
  return described(z.enum(values, { error }).prefault(written as never), {
    doc,
    kind: values.join(' \\| '),
    default: written,
    ...extra,
  });
}

export function text(
  written: string,
  doc: string,
  extra: Extra & { pattern?: RegExp; expected?: string } = {},
) {
  const { pattern, expected = 'a text', ...rest } = extra;
  const base = z.string({ error: expected }).min(1, { error: expected });
  const schema = pattern ? base.regex(pattern, { error: expected }) : base;
  return described(schema.prefault(written), { doc, kind: 'text', default: written, ...rest });
}

export function optionalText(doc: string, extra: Extra = {}) {
  return described(z.string({ error: 'a text' }).min(1, { error: 'a text' }).optional(), {
    doc,
    kind: 'text',
    ...extra,
  });
}

export function optionalPath(doc: string) {
  return described(z.string({ error: 'a path' }).min(1, { error: 'a path' }).optional(), {
    doc,
    kind: 'path',
  });
}

/** The standard OTLP/HTTP path of a signal, at the end of a URL. */
const SIGNAL_PATH = /\/v1(?:development)?\/(traces|metrics|logs|profiles)\/*$/;

/** Instead of a URL: the pipeline itself. */
export const PIPELINE = 'pipeline';

/** A base URL, to which the signals' paths are appended. */
export function baseEndpoint(doc: string) {
  return described(
    endpoint(doc).superRefine((value, context) => {
      const [path, signal] = SIGNAL_PATH.exec(value ?? '') ?? [];
      if (signal === undefined) return;
      const message = `a base URL: ${path} is added to it; a full URL for one signal is exporter.endpoints.${signal}`;
      context.addIssue({ code: 'custom', message });
    }),
    { doc, kind: 'URL' },
  );
}

/** A URL without user, password or query, which would end up in logs. */
export function endpoint(doc: string) {
  const error = 'an http:// or https:// URL without user, password or query';
  return described(
    z
      .string({ error })
      .refine(
        (value) => {
          if (!URL.canParse(value)) return false;
          const url = new URL(value);
          return /^https?:$/.test(url.protocol) && !url.username && !url.password && !url.search && !url.hash;
        },
        { error },
      )
      .optional(),
    { doc, kind: 'URL' },
  );
}

/** A destination: the pipeline itself, or the base URL of another one. */
export function pipelineOrEndpoint(doc: string) {
  const isEndpoint = (value: string) => endpoint('').safeParse(value).success && !SIGNAL_PATH.test(value);
  const error = `${PIPELINE}, or a base URL with http:// or https://, without user, password, query or the path of a signal`;
  return described(
    z
      .string({ error })
      .refine((value) => value === PIPELINE || isEndpoint(value), { error })
      .optional(),
    { doc, kind: `${PIPELINE} \\| URL` },
  );
}

function toSecret(value: string): Secret {
  return new Secret(value);
}

export function secret(doc: string, extra: Extra = {}) {
  const error = 'a text, best as ${env:NAME} or ${file:/path}';
  return described(z.string({ error }).min(1, { error }).transform(toSecret).optional(), {
    doc,
    kind: 'secret',
    ...extra,
  });
}

/** Text that clients send in `Authorization`: clients encode other characters differently and strip blanks at the ends. */
const tokenText = z
  .string({ error: 'a text, best as ${env:NAME} or ${file:/path}' })
  .regex(/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/, {
    error:
      'a text of ASCII characters, without spaces at either end and without line breaks: no client could send another',
  })
  .transform(toSecret);

export function token(doc: string, extra: Extra = {}) {
  return described(tokenText.optional(), { doc, kind: 'secret', ...extra });
}

export function tokens(doc: string, extra: Extra = {}) {
  const error = 'a list of texts, best as ${env:NAME} or ${file:/path}';
  return described(z.array(tokenText, { error }).prefault([]), {
    ...{ doc, kind: 'list of secrets', default: [] },
    ...extra,
  });
}

const PROTOBUF = 'application/x-protobuf';
const OWN_HEADERS = new Set([
  'connection',
  'content-encoding',
  'content-length',
  'expect',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
]);

export function secretMap(doc: string, extra: Extra = {}) {
  const error = 'header names with their values, best as ${env:NAME}';
  const name = z.string().regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/, { error: 'a header name' });
  // A line break would turn the value into another header; HTTP header values are Latin-1.
  const value = z
    .string({ error: 'a text: a number, true or false in quotes, such as "1"' })
    .regex(/^[\t\x20-\x7e\x80-\xff]*$/, { error: 'a text of Latin-1 characters without line breaks' })
    .transform(toSecret);
  const headers = z.record(name, value, { error }).superRefine((given, context) => {
    const seen = new Map<string, string>();
    for (const written of Object.keys(given)) {
      const lower = written.toLowerCase();
      const before = seen.get(lower);
      seen.set(lower, written);
      const message = before
        ? `a header once: ${before} and ${written} are the same`
        : OWN_HEADERS.has(lower)
          ? 'no header of this name: it follows from the body and the connection'
          : lower === 'content-type' && given[written]!.reveal().trim().toLowerCase() !== PROTOBUF
            ? `${PROTOBUF}, which is always sent, or no header of this name`
            : undefined;
      if (message) context.addIssue({ code: 'custom', path: [written], message });
    }
  });
  return described(headers.prefault({}), {
    doc,
    kind: 'map of secrets',
    default: {},
    ...extra,
  });
}

/** A mapping from names to strings. */
export function textMap(doc: string) {
  const error = 'names with texts, such as {deployment.environment.name: production}';
  const name = z.string().min(1, { error }).max(255, { error });
  return described(z.record(name, z.string({ error: 'a text' }).max(4_095), { error }).prefault({}), {
    ...{ doc, kind: 'map of texts' },
    default: {},
  });
}

export function texts(doc: string, extra: Extra = {}) {
  const error = 'a list of texts';
  return described(z.array(z.string({ error }), { error }).prefault([]), {
    doc,
    kind: 'list',
    default: [],
    ...extra,
  });
}

/** Prefix of every path; written with or without slashes around it. */
export function pathPrefix(doc: string) {
  const error = 'a path such as /otlp, of letters, digits, _ . ~ - and /';
  return described(
    z
      .string({ error })
      .regex(/^\/?(?:[A-Za-z0-9_.~-]+(?:\/[A-Za-z0-9_.~-]+)*)?\/?$/, { error })
      .transform((path) => (path.replaceAll('/', '') === '' ? '' : `/${path.replace(/^\/|\/$/g, '')}`))
      .prefault(''),
    { doc, kind: 'path', default: '' },
  );
}

/** Origins of pages: scheme, host and port, with at most one `*` in the host. */
export function origins(doc: string) {
  const error = 'origins such as https://shop.example.com or https://*.example.com, or "*"';
  const one = z
    .string({ error })
    .regex(/^(\*|[a-z][a-z0-9+.-]*:\/\/(?:[^\s/*]+\*?[^\s/*]*|\*[^\s/*]+))$/i, { error });
  return described(z.array(one, { error }).prefault([]), { doc, kind: 'list', default: [] });
}

/** HTTP statuses other than success. */
export function statuses(doc: string) {
  const error = 'a list of HTTP statuses from 300 to 599, such as [404, 500]';
  const one = fromText(z.number({ error }).int({ error }).min(300, { error }).max(599, { error }));
  return described(z.array(one, { error }).prefault([]), { doc, kind: 'list of numbers', default: [] });
}

export function addresses(doc: string) {
  const error = 'a list of addresses such as [redis-1:26379, redis-2:26379]';
  const one = z.unknown().transform((value, context) => {
    const address = parseListen(value);
    if (address) return address;
    context.addIssue({ code: 'custom', message: 'an address such as redis-1:26379' });
    return z.NEVER;
  });
  return described(z.array(one, { error }).prefault([]), { doc, kind: 'list of host:port', default: [] });
}

/** A group of options. */
export function section<T extends z.core.$ZodLooseShape>(doc: string, shape: T) {
  return z
    .strictObject(shape, {
      error: (issue) => (issue.code === 'unrecognized_keys' ? undefined : 'a section of options'),
    })
    .prefault({} as never)
    .meta({ doc, kind: 'section' });
}
