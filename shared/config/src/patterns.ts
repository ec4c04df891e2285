import { RE2JS } from 're2js';
import type * as z from 'zod';

export const PATTERN_MAX_CHARS = 256;
/** Of all rules: compiled within some 20 ms, as changes are at runtime, and bounds what matching a name takes. */
const PATTERNS_MAX_SIZE = 30_000;

type Pattern = string | { regex: string } | undefined;
/** Where a rule may have patterns. */
interface Patterned {
  resource?: Readonly<Record<string, NonNullable<Pattern>>> | undefined;
  scope?: Pattern;
  metric?: Pattern;
  span?: Pattern;
}

/** Checks the patterns of all rules, their size before any is compiled. */
export function checkPatterns(given: readonly Patterned[], context: z.RefinementCtx): void {
  const patterns = given.flatMap(({ resource = {}, scope, metric, span }, i) =>
    Object.entries({ scope, metric, span })
      .map(([name, value]) => ({ path: [i, name], value }))
      .concat(Object.entries(resource).map(([name, value]) => ({ path: [i, 'resource', name], value })))
      .flatMap(({ path, value }) =>
        typeof value === 'object' ? [{ path: [...path, 'regex'], pattern: value.regex }] : [],
      )
      .filter(({ pattern }) => pattern.length <= PATTERN_MAX_CHARS),
  );
  const sizes = patterns.map(({ pattern }) => patternSize(pattern));
  const size = sizes.reduce((sum, each) => sum + each, 0);
  if (size > PATTERNS_MAX_SIZE) {
    const alone = sizes.findIndex((each) => each > PATTERNS_MAX_SIZE);
    const written = `at most ${PATTERNS_MAX_SIZE} characters when repetitions such as {100} are written out`;
    context.addIssue({
      code: 'custom',
      path: patterns[alone]?.path ?? [],
      message:
        alone < 0
          ? `rules whose regular expressions have, together, ${written}; these have ${size}`
          : `a regular expression of ${written}`,
    });
    return;
  }
  for (const { path, pattern } of patterns) {
    const flaw = flawOf(pattern);
    if (flaw === undefined) continue;
    context.addIssue({ code: 'custom', path, message: `a regular expression in the syntax of RE2: ${flaw}` });
  }
}

/** What is wrong with a regular expression, without the part it is about: it is shown beside the message. */
function flawOf(pattern: string): string | undefined {
  try {
    RE2JS.compile(pattern);
    return undefined;
  } catch (error) {
    return (error as Error).message.replace(/^error parsing regexp: /, '').split(': `')[0];
  }
}

/** Fixed cost of a class of Unicode, such as `\pL`: a table of some hundred ranges. */
const UNICODE_CLASS = 30;
/** `\Q…\E`, other escapes, a class in brackets, a counted repetition, or any other character. */
const TOKEN =
  /\\Q.*?(?:\\E|$)|\\[pP](?:\{[^}]*\}|.)|\\x\{[^}]*\}|\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|\{(\d+)(,(\d*))?\}|./gs;

/**
 * Estimates the size of a regular expression when its counted repetitions are written out: `(ab{10}){5}` has about 55. Compiling
 * it, and matching a character, takes time and memory in proportion.
 */
export function patternSize(pattern: string): number {
  let fixed = 0;
  /** Sizes of the open groups, the whole first. */
  const sizes = [0];
  let last = 0;
  for (const [token, from, isRange, to] of pattern.matchAll(TOKEN)) {
    const at = sizes.length - 1;
    if (token === '(') {
      sizes.push(0);
      continue;
    }
    if (token === ')' && at > 0) {
      last = sizes.pop()! + 1;
      sizes[at - 1]! += last;
      continue;
    }
    if (from !== undefined) {
      const times = Math.max(1, Number(from) + (isRange ? 1 : 0), Number(to ?? 0));
      const repeated = times * (last + (isRange ? 1 : 0));
      sizes[at]! += repeated - last;
      last = repeated;
      continue;
    }
    if (/^\\p/i.test(token)) fixed += UNICODE_CLASS;
    const isOperator = token === '*' || token === '+' || token === '?';
    last = isOperator ? last + 1 : 1;
    // Of a literal text, a repetition has the last character.
    sizes[at]! += token.startsWith('\\Q') ? token.length : 1;
  }
  return fixed + sizes.reduce((sum, size) => sum + size, 0);
}
