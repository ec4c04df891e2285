import type { z } from 'zod';
import type { OptionMeta } from './options.ts';
import { schema } from './schema.ts';
import { Secret } from './secret.ts';

export type Path = readonly (string | number)[];
/** A configuration in the shape of its file. */
export type Tree = { [key: string]: unknown };

export interface OptionEntry {
  path: string[];
  meta: OptionMeta;
}

/** Every option, in the order of the schema. */
export function options(): OptionEntry[] {
  const found: OptionEntry[] = [];
  const visit = (node: z.ZodType, path: string[]) => {
    const meta = node.meta() as unknown as OptionMeta;
    const shape = shapeOf(node);
    if (path.length > 0 && !shape) found.push({ path, meta });
    for (const [key, child] of Object.entries(shape ?? {})) visit(child, [...path, key]);
  };
  visit(schema, []);
  return found;
}

/** What a section is for. */
export function sectionDoc(path: readonly string[]): string {
  const node = shapeAt(path.slice(0, -1))![path.at(-1)!]!;
  return (node.meta() as unknown as OptionMeta).doc;
}

export function shapeAt(path: Path): Record<string, z.ZodType> | undefined {
  let node: z.ZodType = schema;
  for (const key of path) {
    const shape = shapeOf(node);
    if (!shape || !Object.hasOwn(shape, String(key))) return undefined;
    node = shape[String(key)]!;
  }
  return shapeOf(node);
}

function shapeOf(node: z.ZodType): Record<string, z.ZodType> | undefined {
  let inner = node as unknown as { def: { innerType?: z.ZodType; shape?: Record<string, z.ZodType> } };
  while (inner.def.innerType) inner = inner.def.innerType as never;
  return inner.def.shape;
}

export function isSecret(path: Path): boolean {
  const names = path.filter((key) => typeof key === 'string');
  return options().some(
    ({ path: known, meta }) => meta.kind.includes('secret') && known.every((key, i) => names[i] === key),
  );
}

export function valueAt(tree: unknown, path: Path): unknown {
  let at = tree;
  for (const key of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, key)) return undefined;
    at = (at as Record<string | number, unknown>)[key];
  }
  return at instanceof Secret ? undefined : at;
}

export function pathText(path: Path): string {
  return path.map((key, i) => (typeof key === 'number' ? `[${key}]` : i === 0 ? key : `.${key}`)).join('');
}
