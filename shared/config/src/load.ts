import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import {
  type Document,
  isAlias,
  isCollection,
  isMap,
  isNode,
  isPair,
  isScalar,
  LineCounter,
  parseDocument,
  visit,
} from 'yaml';
import { type Config, configOf } from './config.ts';
import { crossCheck, type StartNeeds } from './cross-check.ts';
import { isSecret, options, type Path, pathText, shapeAt, type Tree, valueAt } from './option-tree.ts';
import { isNewRelic, presetFor, presetValues } from './preset.ts';
import { ConfigError, type ConfigProblem } from './problem.ts';
import { type ParsedOptions, schema } from './schema.ts';
import { firstProblems, PROBLEMS_MAX, shorten } from './schema-problems.ts';

export interface ConfigSource {
  /** The file, if there is one. */
  file?: string;
  /** Its text, if it was read already. */
  text?: string;
  /** For `${env:NAME}`. */
  env: Readonly<Record<string, string | undefined>>;
  /** Values from flags, by dotted path, above the file. */
  overrides?: Readonly<Record<string, unknown>>;
  /** Values that were applied while running, by dotted path, above all others. */
  applied?: Readonly<Record<string, unknown>>;
  /** Also checks what else a start needs, which may be missing on this machine. */
  forStart?: StartNeeds;
}

export interface Setting {
  path: string;
  /** As written in the file; secrets redacted. */
  value: string;
  /** `default`, `preset newrelic`, `nrdot.yaml:12`, `command line`, or `applied while running`. */
  source: string;
  /** Changes take effect without a restart. */
  live: boolean;
}

export interface LoadedConfig {
  config: Config;
  /** The validated options, by their names in the file. */
  parsed: ParsedOptions;
  /** Every option with its effective value and the source of that. */
  explain(): Setting[];
}

const FILE_MAX_BYTES = 1024 * 1024;
/** Maximum size of a file in `${file:…}`. */
const VALUE_MAX_BYTES = 64 * 1024;
const FILE_SIZE = 'a file of at most 1 MiB';
const MAX_DEPTH = 20;
const DEPTH = `sections and lists that are nested at most ${MAX_DEPTH} deep`;
const ALIASES_MAX = 100;
/** Maximum number of values in a configuration, those that aliases repeat included. */
const VALUES_MAX = 20_000;
const valuesText = (max: number) =>
  `at most ${max.toLocaleString('en')} values, those that *aliases repeat included`;
/** Of changes from the network: checking 20,000 bad values would hold the event loop. */
const CHANGED_VALUES_MAX = 2_000;

/**
 * Loads the configuration: defaults, overridden by the file, then by flags.
 * @throws ConfigError with all problems at once
 */
export function loadConfig(source: ConfigSource): LoadedConfig {
  const problems: ConfigProblem[] = [];
  const { tree, locate } = readTree(source, problems);
  if (problems.length > 0) throw new ConfigError(problems); // invalid YAML has no options
  if (isOfCollector(tree)) {
    const file = source.file ?? 'FILE';
    const expected = `a configuration of NRDOT+; this looks like one of an OpenTelemetry Collector: "nrdot convert ${file}" translates it`;
    throw refused(expected, source.file ?? '');
  }
  const substituted = substitute(tree, source.env, [], problems, locate) as Tree;
  for (const values of [source.overrides, source.applied]) {
    for (const [path, value] of Object.entries(values ?? {})) {
      const keys = path.split('.');
      if (keys.some(isInherited)) problems.push(noSuchOption(keys, ''));
      else setAt(substituted, keys, value);
    }
  }
  const preset = applyPreset(substituted);
  const overridden = new Set(Object.keys(source.overrides ?? {}));
  const applied = Object.keys(source.applied ?? {});
  const sourceOf = (path: Path): string => {
    const name = pathText(path);
    if (preset.paths.has(name)) return `preset ${preset.name}`;
    const isIn = (known: string) =>
      name.startsWith(known) && ['', '.', '['].includes(name.charAt(known.length));
    if (applied.some(isIn)) return 'applied while running';
    if (overridden.has(path.join('.'))) return 'command line';
    return locate(path) ?? source.file ?? '';
  };
  // Remove what is wrong, so that it does not hide other problems.
  const wrong = problems.map(({ path }) => path);
  for (const path of wrong) removeAt(substituted, optionPath(path));
  let result = schema.safeParse(substituted);
  if (!result.success) {
    const rest = structuredClone(substituted);
    problems.push(...firstProblems(result.error.issues, substituted, sourceOf));
    for (const { path, ...issue } of result.error.issues) {
      const keys = issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...path, key]) : [path];
      for (const found of keys) {
        const option = optionPath(pathText(found as Path));
        wrong.push(option.join('.'));
        removeAt(rest, option);
      }
    }
    result = schema.safeParse(rest);
  }
  if (!result.success) throw new ConfigError(problems);
  const config = configOf(result.data);
  // Skip checks that involve removed options: they would be about the defaults.
  const isSound = ({ path, expected }: ConfigProblem) =>
    !wrong.some((name) => name === path || expected.includes(name));
  problems.push(...crossCheck(config, sourceOf, source.forStart).filter(isSound));
  if (problems.length > 0) throw new ConfigError(problems);
  return { config, parsed: result.data, explain: () => explain(substituted, sourceOf) };
}

/** Adds the values of the active preset to a tree, where it has none. */
function applyPreset(tree: Tree): { name: string; paths: ReadonlySet<string> } {
  const at = (path: string) => valueAt(tree, path.split('.'));
  const endpoints = at('exporter.endpoints');
  const urls = [at('exporter.endpoint'), ...Object.values(endpoints instanceof Object ? endpoints : {})];
  const name = presetFor(at('exporter.preset'), urls);
  const isAsked = at('exporter.preset') === name;
  const paths = new Set<string>();
  const put = (path: string, value: unknown) => {
    setAt(tree, path.split('.'), value);
    paths.add(path);
  };
  // A value in place of a section is rejected as it is.
  const isOpenTo = (path: string) =>
    at(path) === undefined &&
    path.split('.').every((_, i, keys) => {
      const section = at(keys.slice(0, i).join('.'));
      return i === 0 || section === undefined || (section instanceof Object && !Array.isArray(section));
    });
  for (const [path, value] of Object.entries(presetValues(name))) {
    if (!isOpenTo(path)) continue;
    // Another upstream may accept what is too old for New Relic.
    const [, signal] = /^exporter\.max_age\.(\w+)$/.exec(path) ?? [];
    if (signal && !isAsked && !isNewRelic(at(`exporter.endpoints.${signal}`) ?? at('exporter.endpoint')))
      continue;
    const own = path === 'limiter.protected_labels' && at('limiter.aggregate_labels');
    // The user may want to strip some of these labels.
    put(path, Array.isArray(own) ? (value as string[]).filter((label) => !own.includes(label)) : value);
  }
  // Own metrics may be sent there directly, although the upstream is another.
  const past = 'telemetry.otlp.temporality';
  if (isOpenTo(past) && isNewRelic(at('telemetry.otlp.endpoint')) && at('exporter.preset') !== 'none')
    put(past, 'delta');
  return { name: paths.size > 0 ? 'newrelic' : name, paths };
}

/** `priority.rules[2].class` belongs to the option `priority.rules`. */
function optionPath(name: string): string[] {
  return name.split('[')[0]!.split('.');
}

/** Whether this looks like a Collector's configuration. */
function isOfCollector(tree: Tree): boolean {
  const sections = ['receivers', 'processors', 'exporters', 'service', 'extensions', 'connectors'];
  return sections.filter((name) => Object.hasOwn(tree, name)).length >= 2;
}

function removeAt(tree: Tree, path: readonly string[]): void {
  const parent = valueAt(tree, path.slice(0, -1));
  if (typeof parent === 'object' && parent !== null) delete (parent as Tree)[path.at(-1)!];
}

/**
 * Reads changes to a configuration.
 * @param given YAML, or a tree in the shape of the file
 * @returns changes by dotted path, not yet validated: loadConfig validates them with all the rest
 * @throws ConfigError if they are malformed or contain a substitution: requests over the network must not read files or the
 *   environment
 */
export function readChanges(given: string | object): Record<string, unknown> {
  const problems: ConfigProblem[] = [];
  const isText = typeof given === 'string';
  const { tree, locate } = isText
    ? readTree({ text: given, file: 'changes', env: {} }, problems, CHANGED_VALUES_MAX)
    : { tree: given as Tree, locate: () => undefined };
  if (!isText) refuseKeys(tree, problems, () => 'changes', 'changes', CHANGED_VALUES_MAX);
  if (problems.length > 0) throw new ConfigError(problems);
  const changes: Record<string, unknown> = {};
  const gather = (value: unknown, path: string[]) => {
    const isSection = path.length === 0 || shapeAt(path) !== undefined;
    if (isSection && typeof value === 'object' && value !== null && !Array.isArray(value)) {
      for (const [key, child] of Object.entries(value)) gather(child, [...path, key]);
      return;
    }
    if (JSON.stringify(value)?.includes('${')) {
      const expected = 'the value itself: ${…} works in the file alone';
      problems.push({ path: path.join('.'), source: locate(path) ?? '', expected });
    }
    changes[path.join('.')] = value;
  };
  gather(tree, []);
  if (problems.length > 0) throw new ConfigError(problems);
  return changes;
}

function refused(expected: string, source: string): ConfigError {
  return new ConfigError([{ path: '', source, expected }]);
}

/**
 * Checks the aliases of a document, and how many values they make of it: the parser's own check takes the square of its size.
 * @throws ConfigError if there are too many
 */
function checkAliases(document: Document, name: string, at: (offset: number) => string): void {
  let aliases = 0;
  /** Values in each anchor that is complete. */
  const anchored = new Map<string, number>();
  const valuesOf = (node: unknown): number => {
    if (isAlias(node)) {
      const source = at(node.range?.[0] ?? 0);
      if (++aliases > ALIASES_MAX) throw refused(`at most ${ALIASES_MAX} *aliases`, source);
      const values = anchored.get(node.source);
      // The name may be a misplaced value, so it is not shown.
      if (values === undefined) throw refused('every *alias to have its &anchor, outside of itself', source);
      return values;
    }
    const anchor = isScalar(node) || isCollection(node) ? node.anchor : undefined;
    if (anchor !== undefined) anchored.delete(anchor); // one of the same name may have come before
    let values = 1;
    if (isCollection(node)) {
      for (const item of node.items) {
        if (!isPair(item)) values += valuesOf(item);
        else {
          valuesOf(item.key); // it is plain text, which may have an anchor
          values += valuesOf(item.value);
        }
      }
      if (values > VALUES_MAX) throw refused(valuesText(VALUES_MAX), name);
    }
    if (anchor !== undefined) anchored.set(anchor, values);
    return values;
  };
  valuesOf(document.contents);
}

function readTree(
  source: ConfigSource,
  problems: ConfigProblem[],
  valuesMax = VALUES_MAX,
): { tree: Tree; locate: (path: Path) => string | undefined } {
  const name = source.file ?? 'nrdot.yaml';
  let text = source.text;
  if (text === undefined && source.file !== undefined) {
    try {
      text = textUpTo(FILE_MAX_BYTES, source.file);
      if (text === undefined) throw refused(FILE_SIZE, name);
    } catch (error) {
      if (error instanceof ConfigError) throw error;
      const value = (error as Error).message;
      throw new ConfigError([{ path: '', source: name, value, expected: 'a readable file' }]);
    }
  }
  if (text === undefined) return { tree: {}, locate: () => undefined };
  if (text.length > FILE_MAX_BYTES) throw refused(FILE_SIZE, name);
  const lines = new LineCounter();
  // The parser's own check for duplicate keys is quadratic, and an excerpt for each error costs more than the parsing.
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: false, prettyErrors: false });
  const at = (offset: number) => `${name}:${lines.linePos(offset).line}`;
  const tooDeep = document.errors.find(({ code }) => code === 'RESOURCE_EXHAUSTION');
  if (tooDeep) throw refused(DEPTH, at(tooDeep.pos[0]));
  for (const error of document.errors.slice(0, PROBLEMS_MAX)) {
    problems.push({ path: '', source: at(error.pos[0]), value: error.message, expected: 'valid YAML' });
  }
  let tree: unknown = {};
  try {
    const collection = keyThatIsNoText(document);
    if (collection !== undefined)
      throw refused('plain text before the ":", not a list, section or *alias', at(collection));
    for (const [key, offset] of keysGivenTwice(document)) {
      problems.push({ path: '', source: at(offset), value: key, expected: 'every key to be unique' });
      if (problems.length >= PROBLEMS_MAX) break;
    }
    checkAliases(document, name, at);
    if (problems.length === 0) tree = document.toJS({ maxAliasCount: -1 });
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const { message } = error as Error;
    if (message.startsWith('Maximum call stack')) throw refused(DEPTH, name);
    problems.push({ path: '', source: name, value: message, expected: 'valid YAML' });
  }
  if (tree !== null && tree !== undefined && (typeof tree !== 'object' || Array.isArray(tree))) {
    problems.push({ path: '', source: at(0), expected: 'sections of options' });
  }
  const locate = (path: Path): string | undefined => {
    for (let length = path.length; length > 0; length--) {
      const parent = length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true);
      const key = path[length - 1]!;
      const pair = isMap(parent) ? parent.items.find((item) => String(item.key) === String(key)) : undefined;
      const node = (pair?.key ?? document.getIn(path.slice(0, length), true)) as
        | { range?: [number] }
        | undefined;
      if (node?.range) return at(node.range[0]);
    }
    return undefined;
  };
  refuseKeys(tree, problems, locate, name, valuesMax);
  return { tree: (tree ?? {}) as Tree, locate };
}

/**
 * Position of the first key that is not text. Making text of it takes the square of its size for each level, and shows on
 * standard error what may be a misplaced secret.
 */
function keyThatIsNoText(document: Document): number | undefined {
  let found: number | undefined;
  visit(document, {
    Pair: (_key, { key }) => {
      if (key === null || isScalar(key)) return;
      found = isNode(key) ? (key.range?.[0] ?? 0) : 0;
      return visit.BREAK;
    },
  });
  return found;
}

/** Duplicate keys of mappings, with their positions. */
function keysGivenTwice(document: Document): [string, number][] {
  const found: [string, number][] = [];
  visit(document, {
    Map: (_key, map) => {
      const seen = new Set<string>();
      for (const { key } of map.items) {
        const name = String(key);
        if (seen.has(name)) found.push([shorten(name), (key as { range?: [number] }).range?.[0] ?? 0]);
        seen.add(name);
      }
    },
  });
  return found;
}

/** Names that every object inherits: never those of an option or of anything in one. */
function isInherited(key: string): boolean {
  return key === '__proto__' || key === 'constructor' || key === 'prototype';
}

/**
 * Rejects names with a dot, which separates the names of a path: they would be another option's path.
 * @throws ConfigError if there are more values than `valuesMax`: aliases repeat theirs
 */
function refuseKeys(
  tree: unknown,
  problems: ConfigProblem[],
  locate: (path: Path) => string | undefined,
  source: string,
  valuesMax: number,
): void {
  let values = 0;
  const look = (value: unknown, path: Path): void => {
    if (++values > valuesMax) throw refused(valuesText(valuesMax), source);
    if (path.length > MAX_DEPTH) {
      problems.push(noSuchOption(path.slice(0, 3), locate(path.slice(0, 3)) ?? ''));
      return;
    }
    if (typeof value !== 'object' || value === null) return;
    const isSection = !Array.isArray(value) && (path.length === 0 || shapeAt(path) !== undefined);
    for (const [key, child] of Object.entries(value)) {
      if (problems.length >= PROBLEMS_MAX) return;
      const below = [...path, Array.isArray(value) ? Number(key) : key];
      if (isInherited(key) || (isSection && key.includes('.')))
        problems.push(noSuchOption(below, locate(below) ?? ''));
      else look(child, below);
    }
  };
  look(tree, []);
}

function noSuchOption(path: Path, source: string): ConfigProblem {
  const key = String(path.at(-1));
  const expected = key.includes('.')
    ? 'an option that exists; sections are nested, not joined by dots'
    : 'an option that exists';
  return { path: shorten(pathText(path)), source, expected };
}

/** Replaces `${env:NAME}`, `${env:NAME:-default}` and `${file:/path}` within values: they cannot become structure. */
function substitute(
  value: unknown,
  env: ConfigSource['env'],
  path: Path,
  problems: ConfigProblem[],
  locate: (path: Path) => string | undefined,
): unknown {
  if (typeof value === 'string') {
    return value.replace(
      // An unterminated one takes all the rest; otherwise each that begins in it would be searched to the end too.
      /\$\{(?:(env|file):)?([^}]*)(\}|$)/g,
      (match, kind: string | undefined, argument: string, end: string) => {
        if (end === '') return match;
        const fail = (expected: string): string => {
          if (problems.length >= PROBLEMS_MAX) return '';
          problems.push({ path: pathText(path), source: locate(path) ?? '', expected });
          return '';
        };
        if (kind === undefined) return fail('${env:NAME} or ${file:/path}');
        if (kind === 'env') {
          const [name = '', ...fallback] = argument.split(':-');
          const found: unknown = env[name];
          // process.env inherits values that are not strings.
          if (typeof found === 'string' && found !== '') return found;
          return fallback.length > 0
            ? fallback.join(':-')
            : fail(`the environment variable ${name} to be set`);
        }
        const text = valueIn(argument);
        return text?.replace(/\r?\n$/, '') ?? fail(`${argument} to be a readable file of at most 64 KiB`);
      },
    );
  }
  if (Array.isArray(value))
    return value.map((child, i) => substitute(child, env, [...path, i], problems, locate));
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(
      Object.entries(value)
        .filter(([key, child]) => child !== null || !mayBeEmpty([...path, key]))
        .map(([key, child]) => [key, substitute(child, env, [...path, key], problems, locate)]),
    );
  }
  return value;
}

/** The text of a regular file; undefined for anything else: a pipe may have no writer, a device no end. */
function valueIn(path: string): string | undefined {
  try {
    return textUpTo(VALUE_MAX_BYTES, path, true);
  } catch {
    return undefined;
  }
}

/** @returns undefined if it is larger, or not a regular file although it must be */
function textUpTo(maxBytes: number, path: string, mustBeRegular = false): string | undefined {
  // Opening a pipe would wait for a writer.
  const file = openSync(path, constants.O_RDONLY | (mustBeRegular ? constants.O_NONBLOCK : 0));
  try {
    if (mustBeRegular && !fstatSync(file).isFile()) return undefined;
    const bytes = Buffer.alloc(maxBytes + 1);
    let length = 0;
    for (let read = -1; read !== 0 && length < bytes.byteLength; length += read)
      read = readSync(file, bytes, length, bytes.byteLength - length, null);
    return length > maxBytes ? undefined : bytes.toString('utf8', 0, length);
  } finally {
    closeSync(file);
  }
}

/** A section or option without a value counts as absent. Parts of a rule do not. */
function mayBeEmpty(path: Path): boolean {
  const shape = shapeAt(path.slice(0, -1));
  return shape !== undefined && Object.hasOwn(shape, String(path.at(-1)));
}

function setAt(tree: Tree, path: string[], value: unknown): void {
  let at = tree;
  for (const key of path.slice(0, -1)) {
    if (!Object.hasOwn(at, key) || typeof at[key] !== 'object' || at[key] === null) at[key] = {};
    at = at[key] as Tree;
  }
  at[path.at(-1)!] = value;
}

function explain(tree: Tree, sourceOf: (path: Path) => string): Setting[] {
  return options().map(({ path, meta }) => {
    const written = valueAt(tree, path);
    const given = written !== undefined;
    const effective = given ? written : meta.default;
    const hidden = isSecret(path) && given;
    return {
      path: pathText(path),
      value: hidden ? '[redacted]' : effective === undefined ? 'not set' : JSON.stringify(effective),
      source: given ? sourceOf(path) : 'default',
      live: meta.live ?? false,
    };
  });
}
