import { isDeepStrictEqual } from 'node:util';
import type { LoadedConfig } from './load.ts';
import { options, valueAt } from './option-tree.ts';
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
  const [used, next] = [plain(before.parsed), plain(after.parsed)];
  return options().flatMap(({ path, meta }) => {
    if (isDeepStrictEqual(valueAt(used, path), valueAt(next, path))) return [];
    const name = path.join('.');
    return [{ path: name, from: from.get(name)!, to: to.get(name)!, live: meta.live ?? false }];
  });
}

/** A copy with the values of secrets, which can be compared. */
function plain(value: unknown): unknown {
  if (value instanceof Secret) return value.reveal();
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, child]) => [key, plain(child)]));
}
