import type { LoadedConfig } from './load.ts';
import { options } from './option-tree.ts';
import { Secret } from './secret.ts';

/** One option that differs between two configurations. */
export interface ConfigChange {
  path: string;
  /** As written in the file; secrets redacted. */
  from: string;
  to: string;
  /** Takes effect without a restart. */
  live: boolean;
}

/** The differences, in the order of the schema. Values are compared as the program uses them: `1024KiB` equals `1MiB`. */
export function changesBetween(before: LoadedConfig, after: LoadedConfig): ConfigChange[] {
  const written = (loaded: LoadedConfig) =>
    new Map(loaded.explain().map((setting) => [setting.path, setting.value]));
  const [from, to] = [written(before), written(after)];
  return options().flatMap(({ path, meta }) => {
    if (same(valueAt(before.parsed, path), valueAt(after.parsed, path))) return [];
    const name = path.join('.');
    return [{ path: name, from: from.get(name)!, to: to.get(name)!, live: meta.live ?? false }];
  });
}

function valueAt(tree: unknown, path: readonly string[]): unknown {
  return path.reduce((at, key) => (at as Record<string, unknown> | undefined)?.[key], tree);
}

function same(a: unknown, b: unknown): boolean {
  if (a instanceof Secret && b instanceof Secret) return a.reveal() === b.reveal();
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a === b;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every(
      (key) =>
        Object.hasOwn(b, key) &&
        same((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]),
    )
  );
}
