import type { z } from 'zod';
import { isSecret, type Path, pathText, shapeAt, type Tree, valueAt } from './option-tree.ts';
import type { ConfigProblem } from './problem.ts';

/** Enough to work with; naming each one costs a search of the file. */
export const PROBLEMS_MAX = 20;
const VALUE_MAX_CHARS = 60;

/** Translates what the schema refuses, `PROBLEMS_MAX` problems at most. */
export function firstProblems(
  issues: readonly z.core.$ZodIssue[],
  tree: Tree,
  sourceOf: (path: Path) => string,
): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  for (const issue of issues) {
    const left = PROBLEMS_MAX - problems.length;
    if (left === 0) break;
    problems.push(...problemsOf(issue, tree, sourceOf, left));
  }
  return problems;
}

function problemsOf(
  issue: z.core.$ZodIssue,
  tree: Tree,
  sourceOf: (path: Path) => string,
  max: number,
): ConfigProblem[] {
  const path = issue.path as Path;
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.slice(0, max).map((key) => ({
      path: pathText([...path, shorten(key)]),
      source: sourceOf([...path, key]),
      expected: `an option that exists${nearest(key, path)}`,
    }));
  }
  const value = valueAt(tree, path);
  const hidden = isSecret(path) || shapeAt(path) !== undefined || /:\/\/[^/]*@/.test(String(value));
  return [
    {
      // A key that is malformed may be a value in the wrong place.
      path: pathText(issue.code === 'invalid_key' ? path.slice(0, -1) : path),
      source: sourceOf(path),
      value:
        hidden || value === undefined || typeof value === 'object'
          ? undefined
          : shorten(JSON.stringify(value)),
      expected: expectedBy(issue),
    },
  ];
}

function expectedBy(issue: z.core.$ZodIssue): string {
  // Checks without words of their own.
  if (/^Too (big|small)/.test(issue.message)) {
    if (issue.code === 'too_big') return `${ofOrigin(issue.origin)} of at most ${issue.maximum}`;
    if (issue.code === 'too_small') return `${ofOrigin(issue.origin)} of at least ${issue.minimum}`;
  }
  return issue.message.replace(/^Invalid input: expected /, '');
}

function ofOrigin(origin: string): string {
  return { string: 'a length in characters', array: 'a number of entries' }[origin] ?? 'a number';
}

/** The option of the same section whose name is nearest to what was written. */
function nearest(key: string, path: Path): string {
  if (key.length > VALUE_MAX_CHARS) return '';
  const best = Object.keys(shapeAt(path) ?? {})
    .map((name) => ({ name, distance: editDistance(key, name) }))
    .sort((a, b) => a.distance - b.distance)[0];
  return best && best.distance <= Math.max(2, key.length / 3) ? `; did you mean ${best.name}?` : '';
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}

export function shorten(text: string): string {
  return text.length > VALUE_MAX_CHARS ? `${text.slice(0, VALUE_MAX_CHARS)}…` : text;
}
