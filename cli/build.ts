/**
 * Bundles the program into dist/: one JavaScript file for the command, one for each thread. Native packages stay outside, in
 * dist/node_modules.
 *     node cli/build.ts [directory]
 */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('../', import.meta.url));
const dist = process.argv[2] ?? `${root}dist`;
/** Packages with native binaries. */
const NATIVE = ['@mongodb-js/zstd'];

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });
const result = await build({
  absWorkingDir: root,
  entryPoints: {
    nrdot: 'cli/src/bundle-entry.ts',
    'changes-worker': 'shared/service/src/changes-worker.ts',
    'divide-worker': 'services/exporter/src/divide-worker.ts',
    'export-worker': 'services/dlq/src/export-worker.ts',
    'hash-worker': 'shared/segment-log/src/hash-worker.ts',
    'large-worker': 'services/receiver/src/large-worker.ts',
  },
  outdir: dist,
  bundle: true,
  splitting: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  external: NATIVE,
  // It is imported as ESM and as CommonJS; bundle one copy.
  alias: { bullmq: `${root}node_modules/bullmq/dist/esm/index.js` },
  // bull-board uses eval for a configured path.
  logOverride: { 'direct-eval': 'silent' },
  minifySyntax: true,
  minifyWhitespace: true,
  lineLimit: 160,
  legalComments: 'none',
  metafile: true,
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
});
const packageOf = (dir: string): Record<string, string> =>
  JSON.parse(readFileSync(`${root}${dir}package.json`, 'utf8'));
const { version, license, description } = packageOf('');
const versions = NATIVE.map((name) => [name, packageOf(`node_modules/${name}/`).version]);
const manifest = {
  // The product's own name, like the image's and the chart's; `nrdot` alone is New Relic's distribution of the Collector.
  ...{ name: 'nrdot-plus', version, description, license, type: 'module' },
  bin: { nrdot: 'nrdot.js' },
  engines: { node: '>=24' },
  dependencies: Object.fromEntries(versions),
};
writeFileSync(`${dist}/package.json`, `${JSON.stringify(manifest, null, 2)}\n`);
// The page needs no build.
cpSync(`${root}shared/console/page`, `${dist}/console`, {
  recursive: true,
  filter: (path) => !path.endsWith('tsconfig.json'),
});
cpSync(`${root}node_modules/@bull-board/ui/dist`, `${dist}/bull-board`, {
  recursive: true,
  // bull-board's other languages are not used.
  filter: (path) => !/locales\/(?!en-)|\.map$/.test(path),
});
writeFileSync(
  `${dist}/README.md`,
  `# NRDOT+

${description} It needs Node 24 or later, and for \`nrdot up\` a \`redis-server\` of version 7 or later on the PATH.

    npx ./nrdot-plus-${version}.tgz up --help
    npm install --global ./nrdot-plus-${version}.tgz && nrdot up
`,
);
cpSync(`${root}LICENSE`, `${dist}/LICENSE`);
const outputs = Object.values(result.metafile.outputs);
const bytes = outputs.reduce((sum, output) => sum + output.bytes, 0);
console.log(`${dist}: ${outputs.length} files, ${(bytes / 1024 / 1024).toFixed(1)} MiB`);
