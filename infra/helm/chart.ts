/**
 * Generates the chart's README and values.schema.json from the comments and defaults of its values.yaml, and the manifests that
 * it renders for the example values.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMap, isScalar, parseDocument, type YAMLMap } from 'yaml';

const HERE = fileURLToPath(new URL('./', import.meta.url));
export const CHART = join(HERE, 'nrdot-plus');
export const RENDERED = join(HERE, 'rendered');
export const EXAMPLES = join(HERE, 'examples');

const KUBERNETES = ['--kube-version', '1.29.0'];

interface Value {
  path: string[];
  doc: string;
  default: unknown;
}

/** Path of `helm`; undefined if it is not on the PATH. */
export function findHelm(): string | undefined {
  return (process.env.PATH ?? '')
    .split(':')
    .map((dir) => join(dir, 'helm'))
    .find((file) => existsSync(file));
}

/** The example values by name; `default` has none. */
export function exampleNames(): string[] {
  const files = readdirSync(EXAMPLES).filter((file) => file.endsWith('.yaml'));
  return ['default', ...files.map((file) => file.replace(/\.yaml$/, '')).sort()];
}

/** Output of `helm template` for an example. @throws Error with helm's message */
export function render(helm: string, name: string): string {
  const values = name === 'default' ? [] : ['--values', join(EXAMPLES, `${name}.yaml`)];
  const args = ['template', 'nrdot-plus', CHART, '--namespace', 'telemetry', ...KUBERNETES, ...values];
  return execFileSync(helm, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** A committed manifest with other alert rules, as helm would write it; for those who have no helm. */
export function withAlerts(name: string, rules: string): string {
  const documents = readFileSync(join(RENDERED, `${name}.yaml`), 'utf8').split(/^(?=---$)/m);
  const spec = `\nspec:\n  ${rules.replaceAll('\n', '\n  ').trimEnd()}\n`;
  return documents
    .map((one) => (/^kind: PrometheusRule$/m.test(one) ? one.replace(/\nspec:\n.*$/s, () => spec) : one))
    .join('');
}

/** Every value with its comment. Sections are expanded; a value without a comment belongs to a documented one. */
export function chartValues(): Value[] {
  const document = parseDocument(readFileSync(join(CHART, 'values.yaml'), 'utf8'));
  const found: Value[] = [];
  const visit = (map: YAMLMap, path: string[]) => {
    map.items.forEach((pair, i) => {
      const key = pair.key as { value: string; commentBefore?: string };
      const before = i === 0 ? (map.commentBefore ?? key.commentBefore) : key.commentBefore;
      const doc = (before ?? '').replace(/\s*\n\s*/g, ' ').trim();
      const at = [...path, key.value];
      if (isMap(pair.value) && doc === '') visit(pair.value, at);
      else {
        const value = isScalar(pair.value) ? pair.value.value : (pair.value as YAMLMap).toJSON();
        found.push({ path: at, doc, default: value });
      }
    });
  };
  visit(document.contents as YAMLMap, []);
  return found;
}

export function chartReadme(): string {
  const rows = chartValues().map(
    ({ path, doc, default: value }) => `| \`${path.join('.')}\` | \`${JSON.stringify(value)}\` | ${doc} |`,
  );
  return `# The Helm chart of NRDOT+

How to install it: [docs/kubernetes.md](../../../docs/kubernetes.md). This page is generated from \`values.yaml\` by
\`npm run docs\`.

| value | default | meaning |
| --- | --- | --- |
${rows.join('\n')}
`;
}

/** A JSON Schema: only existing values, each of the type of its default. */
export function chartSchema(): string {
  const root: Schema = object();
  // Helm adds these to the values of every chart.
  root.properties!.global = { type: 'object' };
  for (const { path, doc, default: value } of chartValues()) {
    let at = root;
    for (const key of path.slice(0, -1)) at = at.properties![key] ??= object();
    at.properties![path.at(-1)!] = { description: doc, ...typeOf(value, doc) };
  }
  const schema = { $schema: 'http://json-schema.org/draft-07/schema#', ...root };
  return `${JSON.stringify(schema, null, 2)}\n`;
}

interface Schema {
  type?: string;
  description?: string;
  enum?: string[];
  minimum?: number;
  anyOf?: Schema[];
  properties?: Record<string, Schema>;
  additionalProperties?: boolean;
}

function object(): Schema {
  return { type: 'object', additionalProperties: false, properties: {} };
}

function typeOf(value: unknown, doc: string): Schema {
  const choices = /One of: ([^.]+)\./.exec(doc)?.[1]?.split(', ');
  if (choices) return { enum: choices };
  if (Array.isArray(value)) return { type: 'array' };
  if (value === 'auto') return { anyOf: [{ enum: ['auto', 'none'] }, { type: 'integer', minimum: 0 }] };
  if (typeof value === 'number')
    return { type: 'integer', minimum: Number(/At least (\d+)/.exec(doc)?.[1] ?? 0) };
  if (typeof value === 'boolean') return { type: 'boolean' };
  return { type: typeof value === 'string' ? 'string' : 'object' };
}
