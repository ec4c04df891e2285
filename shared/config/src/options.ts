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

/** An option with a default, as written in the file. */
function defaulting<T extends z.ZodType>(kind: string, schema: T) {
  return (written: unknown, doc: string, extra: Extra = {}) =>
    schema.prefault(written as never).meta({ doc, kind, default: written, ...extra } satisfies OptionMeta);
}

/** An option without a default. */
function optional<T extends z.ZodType>(kind: string, schema: T) {
  return (doc: string, extra: Extra = {}) =>
    schema.optional().meta({ doc, kind, ...extra } satisfies OptionMeta);
}

/** An option that is empty by default. */
function empty<T extends z.ZodType>(kind: string, schema: T, written: [] | object | '' = []) {
  return (doc: string, extra: Extra = {}) => defaulting(kind, schema)(written, doc, extra);
}

/** A value that is parsed; undefined if it is not what is expected. */
function parsed<T>(expected: string, parse: (value: unknown) => T | undefined) {
  return z.unknown().transform((value, context): T => {
    const result = parse(value);
    if (result !== undefined) return result;
    context.addIssue({ code: 'custom', message: expected });
    return z.NEVER;
  });
}

function durationFrom(expected: string, isAllowed: (ms: number) => boolean) {
  return parsed(expected, (value) => {
    const ms = parseDuration(value);
    return ms !== undefined && isAllowed(ms) ? ms : undefined;
  });
}

/** Maximum time of a timer in Node. */
const TIMER_MAX_MS = 2 ** 31 - 1;
const isPeriod = (ms: number) => ms >= 1_000 && ms <= 3_600_000;
const sizeText = parsed('a size such as 128MiB, 4MB or 1048576', (value) => parseSize(value) || undefined);
const ageText = durationFrom('a duration such as 72h or 30d', (ms) => ms > 0);

export const size = defaulting('size', sizeText);
export const optionalSize = optional('size', sizeText);
export const rate = defaulting(
  'size per second',
  parsed(
    'a size per second such as 4MiB',
    (value) => parseSize(typeof value === 'string' ? value.replace(/\/s$/, '') : value) || undefined,
  ),
);
export const duration = defaulting(
  'duration',
  durationFrom('a duration such as 500ms, 30s or 72h, at most 24d', (ms) => ms > 0 && ms <= TIMER_MAX_MS),
);
/** Interval of a repeated action; 0 for at once. */
export const interval = defaulting(
  'duration',
  durationFrom('0s, or a duration from 1s to 1h such as 10s', (ms) => ms === 0 || isPeriod(ms)),
);
/** Interval of a repeated action. */
export const period = defaulting('duration', durationFrom('a duration from 1s to 1h such as 60s', isPeriod));
export const age = defaulting('duration', ageText);
export const optionalAge = optional('duration', ageText);
export const listen = defaulting('host:port', parsed('an address such as 127.0.0.1:4318', parseListen));

/** Values from the environment are strings, also for numbers and booleans. */
function fromText<T extends z.ZodType>(schema: T) {
  return z.preprocess((value) => {
    if (typeof value !== 'string') return value;
    if (value === 'true' || value === 'false') return value === 'true';
    return /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value;
  }, schema);
}

function numberFrom(min: number, max: number, error: string) {
  return fromText(z.number({ error }).min(min, { error }).max(max, { error }));
}

function wholeNumber(min: number, max: number, error = `a whole number from ${min} to ${max}`) {
  return fromText(z.number({ error }).int({ error }).min(min, { error }).max(max, { error }));
}

export function count(written: number, doc: string, extra: Extra & { min?: number; max?: number } = {}) {
  const { min = 1, max = 1_000_000_000, ...rest } = extra;
  return defaulting('number', wholeNumber(min, max))(written, doc, rest);
}

export const optionalCount = optional(
  'number',
  wholeNumber(1, Number.POSITIVE_INFINITY, `a whole number from 1 to ${Number.MAX_SAFE_INTEGER}`),
);
export const ratio = defaulting('0 to 1', numberFrom(0, 1, 'a number from 0 to 1'));
export const factor = defaulting('number', numberFrom(1, 100, 'a number from 1 to 100'));
export const flag = defaulting('true or false', fromText(z.boolean({ error: 'true or false' })));

export function choice<const T extends readonly [string, ...string[]]>(
  values: T,
  written: T[number],
  doc: string,
  extra: Extra = {},
) {
  return defaulting(values.join(' \\| '), oneOf(...values))(written, doc, extra);
}

/** One of a few texts. */
export function oneOf<const T extends readonly [string, ...string[]]>(...values: T) {
  return z.enum(values, { error: `one of ${values.join(', ')}` });
}

const filled = (error: string) => z.string({ error }).min(1, { error });

export function text(
  written: string,
  doc: string,
  extra: Extra & { pattern?: RegExp; expected?: string } = {},
) {
  const { pattern, expected = 'a text', ...rest } = extra;
  const base = filled(expected);
  const schema = pattern ? base.regex(pattern, { error: expected }) : base;
  return defaulting('text', schema)(written, doc, rest);
}

export const optionalText = optional('text', filled('a text'));
export const optionalPath = optional('path', filled('a path'));

/** The standard OTLP/HTTP path of a signal, at the end of a URL. */
const SIGNAL_PATH = /\/v1(?:development)?\/(traces|metrics|logs|profiles)\/*$/;

/** Instead of a URL: the pipeline itself. */
export const PIPELINE = 'pipeline';

/** A URL without user, password or query, which would end up in logs. */
const plainUrl = (error: string) =>
  z.string({ error }).refine(
    (value) => {
      if (!URL.canParse(value)) return false;
      const { protocol, username, password, search, hash } = new URL(value);
      return /^https?:$/.test(protocol) && !username && !password && !search && !hash;
    },
    { error },
  );
const url = plainUrl('an http:// or https:// URL without user, password or query');
export const endpoint = optional('URL', url);

/** A base URL, to which the signals' paths are appended. */
export const baseEndpoint = optional(
  'URL',
  url.superRefine((value, context) => {
    const [path, signal] = SIGNAL_PATH.exec(value) ?? [];
    if (signal === undefined) return;
    const message = `a base URL: ${path} is added to it; a full URL for one signal is exporter.endpoints.${signal}`;
    context.addIssue({ code: 'custom', message });
  }),
);

const EITHER = `${PIPELINE}, or a base URL with http:// or https://, without user, password, query or the path of a signal`;
/** A destination: the pipeline itself, or the base URL of another one. */
export const pipelineOrEndpoint = optional(
  `${PIPELINE} \\| URL`,
  z
    .string({ error: EITHER })
    .refine((value) => value === PIPELINE || (url.safeParse(value).success && !SIGNAL_PATH.test(value)), {
      error: EITHER,
    }),
);

const SECRET_TEXT = 'a text, best as ${env:NAME} or ${file:/path}';
const toSecret = (value: string) => new Secret(value);
export const secret = optional('secret', filled(SECRET_TEXT).transform(toSecret));

/** Text that clients send in `Authorization`: clients encode other characters differently and strip blanks at the ends. */
const tokenText = z
  .string({ error: SECRET_TEXT })
  .regex(/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/, {
    error:
      'a text of ASCII characters, without spaces at either end and without line breaks: no client could send another',
  })
  .transform(toSecret);

export const token = optional('secret', tokenText);
export const tokens = empty(
  'list of secrets',
  z.array(tokenText, { error: 'a list of texts, best as ${env:NAME} or ${file:/path}' }),
);

const PROTOBUF = 'application/x-protobuf';
const OWN_HEADERS = new Set([
  ...['connection', 'content-encoding', 'content-length', 'expect', 'keep-alive', 'transfer-encoding'],
  'upgrade',
]);

const headerName = z.string().regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/, { error: 'a header name' });
/** A line break would turn the value into another header; HTTP header values are Latin-1. */
const headerValue = z
  .string({ error: 'a text: a number, true or false in quotes, such as "1"' })
  .regex(/^[\t\x20-\x7e\x80-\xff]*$/, { error: 'a text of Latin-1 characters without line breaks' })
  .transform(toSecret);
const headers = z
  .record(headerName, headerValue, { error: 'header names with their values, best as ${env:NAME}' })
  .superRefine((given, context) => {
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
export const secretMap = empty('map of secrets', headers, {});

const MAP = 'names with texts, such as {deployment.environment.name: production}';
/** A mapping from names to strings. */
export const textMap = empty(
  'map of texts',
  z.record(
    z.string().min(1, { error: MAP }).max(255, { error: MAP }),
    z.string({ error: 'a text' }).max(4_095),
    {
      error: MAP,
    },
  ),
  {},
);

/** A list, each entry of which is as the error says. */
function list<T extends z.ZodType>(kind: string, entry: (error: string) => T, error: string) {
  return empty(kind, z.array(entry(error), { error }));
}

export const texts = list('list', (error) => z.string({ error }), 'a list of texts');

const PATH = 'a path such as /otlp, of letters, digits, _ . ~ - and /';
/** Prefix of every path; written with or without slashes around it. */
export const pathPrefix = empty(
  'path',
  z
    .string({ error: PATH })
    .regex(/^\/?(?:[A-Za-z0-9_.~-]+(?:\/[A-Za-z0-9_.~-]+)*)?\/?$/, { error: PATH })
    .transform((path) => (path.replaceAll('/', '') === '' ? '' : `/${path.replace(/^\/|\/$/g, '')}`)),
  '',
);

/**
 * Origins of pages: scheme, host and port, with at most one `*` in the host. Spelled as browsers send them: in lower case,
 * without the default port.
 */
export const origins = list(
  'list',
  (error) =>
    z
      .string({ error })
      .regex(/^(\*|[a-z][a-z0-9+.-]*:\/\/(?:[\w.~:[\]-]+(?:\*[\w.~:[\]-]*)?|\*[\w.~:[\]-]+))$/i, { error })
      .transform((origin) => origin.toLowerCase().replace(/^(https:.*):443$|^(http:.*):80$/, '$1$2')),
  'origins as browsers send them, such as https://shop.example.com or https://*.example.com, or "*"',
);

/** HTTP statuses other than success. */
export const statuses = list(
  'list of numbers',
  (error) => wholeNumber(300, 599, error),
  'a list of HTTP statuses from 300 to 599, such as [404, 500]',
);

export const addresses = list(
  'list of host:port',
  () => parsed('an address such as redis-1:26379', parseListen),
  'a list of addresses such as [redis-1:26379, redis-2:26379]',
);

/** A group of options. */
export function section<T extends z.core.$ZodLooseShape>(doc: string, shape: T) {
  return z
    .strictObject(shape, {
      error: (issue) => (issue.code === 'unrecognized_keys' ? undefined : 'a section of options'),
    })
    .prefault({} as never)
    .meta({ doc, kind: 'section' });
}
