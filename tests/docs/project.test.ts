/** What surrounds the program holds together: workflows, versions, changelog, guides. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '@nrdot/config';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8');
const root = JSON.parse(read('package.json')) as { version: string; scripts: Record<string, string> };
const onPath = (name: string) =>
  (process.env.PATH ?? '')
    .split(':')
    .map((dir) => join(dir, name))
    .find((file) => existsSync(file));
const TARGETS = new Set([...read('Makefile').matchAll(/^([a-z][a-z-]*):/gm)].map(([, name]) => name));

const WORKFLOWS = readdirSync(join(ROOT, '.github/workflows')).map((file) => `.github/workflows/${file}`);
const PAGES = [
  'README.md',
  'CONTRIBUTING.md',
  ...readdirSync(join(ROOT, 'docs'))
    .filter((file) => file.endsWith('.md'))
    .map((file) => `docs/${file}`),
];

/** Commands that a test runs as they stand, or whose parts each have a test: by how they begin, and which test. */
const RUN: readonly (readonly [RegExp, string])[] = [
  [
    /^make (run|demo|test|build|bench|faults|lint|format|docs|test-docker|test-kubernetes|test-senders)\b/,
    'the Makefile has the target; this very run is one',
  ],
  [/^npm run \w+|^npx (vitest|turbo)/, 'package.json has the script'],
  [/^(npx )?nrdot /, 'the command and its flags are checked below; tests/e2e and cli run them'],
  [/^curl /, 'tests/e2e and tests/testbed ask for the same addresses'],
  [/^export [A-Z_]+=/, 'sets a variable'],
  [/^redis-cli /, 'docs/redis.md: names of keys are those of keys.ts'],
  [/^docker(-compose| compose| build| run)/, 'make test-docker'],
  [/^openssl /, 'tests/integration/tls.test.ts makes its certificates so'],
  [/^helm (lint|template) /, 'tests/docs/chart.test.ts'],
  [/^(node infra\/debian\/build\.ts|apt-get install|systemctl|journalctl) /, 'tests/docker/debian.test.ts'],
];
const CLUSTER = '<!-- needs a cluster -->';

interface Block {
  page: string;
  line: number;
  marked: boolean;
  commands: string[];
}

/** The commands of the fenced shell blocks of a page, without comments and continued lines made one. */
function shellBlocks(page: string): Block[] {
  const lines = read(page).split('\n');
  const blocks: Block[] = [];
  for (let i = 0; i < lines.length; i++) {
    if (!/^```(sh|shell|bash|console)\s*$/.test(lines[i]!)) continue;
    const before = lines.slice(Math.max(0, i - 2), i).join('\n');
    const end = lines.indexOf('```', i);
    const text = lines
      .slice(i + 1, end)
      .join('\n')
      .replace(/\\\n\s*/g, ' ');
    const commands = text
      .split('\n')
      .map((line) =>
        line
          .replace(/(^|\s)#.*$/, '')
          .trim()
          .replace(/^([A-Z_]+=\S+ )+/, ''),
      )
      .filter(Boolean);
    blocks.push({ page, line: i + 1, marked: before.includes(CLUSTER), commands });
    i = end;
  }
  return blocks;
}

describe('workflows', () => {
  it.each(WORKFLOWS)('%s uses existing targets and scripts, pinned actions and few permissions', (file) => {
    const text = read(file);
    const workflow = parse(text);
    for (const [, target] of text.matchAll(/\bmake ([a-z-]+)/g)) expect([...TARGETS]).toContain(target);
    for (const [, script] of text.matchAll(/\bnpm run (\S+)/g))
      expect(root.scripts).toHaveProperty([script!]);
    expect(workflow.permissions).toEqual({ contents: 'read' });
    for (const job of Object.values<{ 'timeout-minutes': number; steps: { uses?: string }[] }>(
      workflow.jobs,
    )) {
      expect(job['timeout-minutes']).toBeGreaterThan(0);
      for (const { uses } of job.steps) if (uses) expect(uses).toMatch(/@(v\d+(\.\d+)*|[0-9a-f]{40})$/);
    }
    for (const [, path] of text.matchAll(/(?:^|\s)((?:infra|tests)\/[\w./-]+)/g))
      expect(existsSync(join(ROOT, path!)), path).toBe(true);
  });

  it.skipIf(!onPath('actionlint'))('pass actionlint', () => {
    execFileSync(onPath('actionlint')!, ['-shellcheck=', '-pyflakes='], { cwd: ROOT, stdio: 'pipe' });
  });
});

describe('the release', () => {
  it('has one version throughout', () => {
    const chart = parse(read('infra/helm/nrdot-plus/Chart.yaml'));
    expect([chart.version, chart.appVersion]).toEqual([root.version, root.version]);
    const lock = JSON.parse(read('package-lock.json'));
    expect(lock.version).toBe(root.version);
    for (const [path, { version }] of Object.entries<{ version?: string }>(lock.packages)) {
      if (path === '' || path.includes('node_modules/') || version === undefined) continue;
      expect(`${path} ${JSON.parse(read(join(path, 'package.json'))).version}`).toBe(
        `${path} ${root.version}`,
      );
    }
    const said = execFileSync(process.execPath, [join(ROOT, 'cli/bin/nrdot.js'), '--version'], {
      encoding: 'utf8',
    });
    expect(said.trim()).toBe(root.version);
  });

  it('has a changelog in the form of Keep a Changelog', () => {
    const lines = read('CHANGELOG.md').split('\n');
    expect(lines[0]).toBe('# Changelog');
    const versions = lines.filter((line) => line.startsWith('## '));
    expect(versions[0]).toBe('## [Unreleased]');
    for (const line of versions.slice(1)) expect(line).toMatch(/^## \[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}$/);
    for (const line of lines.filter((l) => l.startsWith('### ')))
      expect(line).toMatch(/^### (Added|Changed|Deprecated|Removed|Fixed|Security)$/);
  });
});

describe('the README', () => {
  it('quotes the figures of BENCHMARKS.md', () => {
    const page = read('BENCHMARKS.md');
    const [, headline = ''] = page.split('### 20 requests/s × 500 spans, gzip');
    // Medians: each stands before its range in parentheses.
    const [cpu, p99, rss] = [/^CPU ms per second/, /^p99 ms/, /^RSS/].map((column) => {
      const rows = headline.split('\n').filter((line) => line.startsWith('|'));
      const cells = (row = '') => row.split('|').map((cell) => cell.replaceAll('*', '').trim());
      const at = cells(rows[0]).findIndex((cell) => column.test(cell));
      const of = (system: string) =>
        cells(rows.find((row) => cells(row)[1] === system))[at]?.replace(/ \(.*/, '');
      return ['NRDOT+ one process', 'Collector, file_storage, fsync', 'Collector, memory queue'].map(of);
    });
    const readme = read('README.md').replaceAll('\n', ' ');
    expect(readme).toContain(
      `it took ${cpu![0]} ms of CPU per second; the Collector took ${cpu![1]} ms with`,
    );
    expect(readme).toContain(`and ${cpu![2]} ms with its in-memory queue`);
    expect(readme).toContain(`p99 was ${p99![0]} ms against ${p99![1]} and ${p99![2]}`);
    expect(readme).toContain(`memory was ${rss![0]} MiB against ${rss![1]} and ${rss![2]}`);
  });
});

describe('the guides', () => {
  const blocks = PAGES.flatMap(shellBlocks);

  it('show commands that a test runs, or say that they need a cluster', () => {
    expect(blocks.length).toBeGreaterThan(5);
    const strange = blocks
      .filter(({ marked }) => !marked)
      .flatMap(({ page, line, commands }) =>
        commands
          .filter((command) => !RUN.some(([begins]) => begins.test(command)))
          .map((command) => `${page}:${line}: ${command}`),
      );
    expect(strange).toEqual([]);
    for (const { page, line, commands } of blocks)
      for (const command of commands) {
        const target = /^make ([a-z-]+)/.exec(command)?.[1];
        if (target) expect([...TARGETS], `${page}:${line}`).toContain(target);
        const script = /^npm run (\S+)/.exec(command)?.[1];
        if (script) expect(root.scripts, `${page}:${line}`).toHaveProperty([script]);
      }
  });

  it('use existing subcommands and flags of nrdot', () => {
    // The very text of every command's --help: cli/src/reference.test.ts holds the page to the program.
    const helps = new Map(
      [...read('docs/cli.md').matchAll(/^## (nrdot.*)\n\n```\n([\s\S]*?)\n```/gm)].map(
        ([, name = '', text = '']) => [name, text] as const,
      ),
    );
    const help = (...path: string[]) => helps.get(['nrdot', ...path].join(' ')) ?? '';
    for (const { page, line, commands } of blocks)
      for (const command of commands) {
        const [, words = ''] = /^(?:[A-Z_]+=\S+ )*(?:npx )?nrdot (.*)$/.exec(command) ?? [];
        if (words === '') continue;
        const [subcommand = ''] = words.split(/\s+/);
        const path = subcommand.startsWith('-') ? [] : [subcommand];
        if (path.length > 0)
          expect(help(), `${page}:${line}: ${command}`).toMatch(new RegExp(`^  ${subcommand}\\b`, 'm'));
        const text = help(...path);
        // Flags of a command below a command, such as `nrdot dlq replay`, are in the help of that one.
        const second = words.split(/\s+/)[1] ?? '';
        const all =
          new RegExp(`^  ${second}\\b`, 'm').test(text) && /^[a-z]+$/.test(second)
            ? text + help(...path, second)
            : text;
        for (const [flag] of words.matchAll(/(?<=\s|^)--[a-z-]+/g))
          expect(all, `${page}:${line}: ${command}`).toContain(flag);
      }
  });

  it('show valid configurations', () => {
    const env = new Proxy(
      {},
      { get: (_target, name) => (String(name).endsWith('URL') ? 'rediss://redis' : 'word') },
    );
    let checked = 0;
    for (const page of PAGES)
      for (const [, text = ''] of read(page).matchAll(/```yaml\n([\s\S]*?)```/g)) {
        const tree = parse(text);
        if (tree.service?.pipelines) {
          // A Collector's: what its pipelines name is defined.
          for (const pipeline of Object.values<Record<string, string[]>>(tree.service.pipelines))
            for (const [kind, names] of Object.entries(pipeline))
              for (const name of names) expect(tree[kind], page).toHaveProperty([name]);
        } else if (text.startsWith('# nrdot.yaml') || page === 'docs/security.md') {
          loadConfig({ text, env, file: page });
          checked++;
        }
      }
    expect(checked).toBeGreaterThan(4);
  });

  it('link to existing files', () => {
    for (const page of PAGES)
      for (const [, target = ''] of read(page).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
        if (/^[a-z]+:/.test(target)) continue;
        expect(existsSync(join(ROOT, dirname(page), target)), `${page}: ${target}`).toBe(true);
      }
  });
});

it('the compose stack leaves room for an AOF on its disk, as nrdot up does', () => {
  const path = new URL('../../infra/docker/nrdot.yaml', import.meta.url);
  const text = readFileSync(path, 'utf8').replaceAll(/\$\{file:[^}]*\}/g, 'a-token');
  const { dlq, queue } = loadConfig({ env: {}, text }).config;
  expect(dlq.reserveBytes).toBe(64 * 2 ** 20 + 3 * queue.maxBytes);
});
