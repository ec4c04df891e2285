/** Structure and language: which part may import which, no unused exports, no overlong files, the glossary's words. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8');

/** Who may import whom among the shared packages: only those that come before. Services may import all of these. */
const SHARED = [
  'otlp',
  'telemetry',
  'config',
  'segment-log',
  'redis',
  'key-budget',
  'queue',
  'status',
  'service',
  'console',
];
/** Parts above the services. */
const ABOVE_SERVICES = new Set(['cli', 'infra', 'tests']);

const MAX_LINES = 500;
/** Limits of files that are longer; each may shrink. */
const LONGER: Readonly<Record<string, number>> = {
  'services/dlq/src/replayer.ts': 600,
  'services/receiver/src/ingest.ts': 560,
  'services/receiver/src/limiter/limiter.ts': 660,
  'services/receiver/src/limiter/merge/tracker.ts': 650,
  'services/receiver/src/limiting.ts': 606,
  'shared/status/src/findings.ts': 560,
  'shared/config/src/schema.ts': 560,
  'shared/queue/src/doctor/doctor.ts': 560,
};

/** Words that readers would misunderstand, and the ones to use instead. */
const OLD_WORDS: readonly (readonly [RegExp, string])[] = [
  [/done with(?! it)/, 'acknowledged, or settled'],
  [/\bunder way\b|requests? (?:are |is )?on its way/, 'in flight, or in progress'],
  [/\b[Bb]ells?\b|\brung\b/, 'wake signal'],
  [/[Dd]irect ?[Ll]ane/, 'in-process hand-off'],
  [/\b[Rr]iders?\b/, 'deferred settlement'],
  [/\b(?:lends?|lent)\b/, 'lease, or share'],
  [/\bfor want of\b/, 'without, or if there is none'],
  [/\b(?:began|begun) anew\b/, 'was reset'],
  [/\bstands? or falls?\b/, 'is accepted or rejected as a whole'],
  [/nobody has a hand on/, 'idle'],
];

const FILES = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.ts'], {
  cwd: ROOT,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && !file.endsWith('.d.ts'));
const TEXTS = new Map(FILES.map((file) => [file, read(file)]));

const PACKAGES = new Map(
  execFileSync('git', ['ls-files', '*/package.json'], { cwd: ROOT, encoding: 'utf8' })
    .trim()
    .split('\n')
    .map(
      (file) => [JSON.parse(read(file)) as { name: string; exports?: Record<string, string> }, file] as const,
    )
    .map(([{ name, exports = {} }, file]) => [name, { dir: dirname(file), exports }]),
);

interface Import {
  to: string;
  /** Erased before it runs. */
  isType: boolean;
}

function importsOf(file: string): Import[] {
  const statements =
    /^(?:import|export)\b(?:(?!^(?:import|export)\b)[\s\S])*?\bfrom '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm;
  return [...TEXTS.get(file)!.matchAll(statements)].flatMap(([statement, ...names]) => {
    const to = resolved(
      file,
      names.find((name) => name !== undefined),
    );
    return to === undefined ? [] : [{ to, isType: /^(import|export) type\b/.test(statement) }];
  });
}

function resolved(from: string, name = ''): string | undefined {
  if (name.startsWith('.')) return join(dirname(from), name);
  const [, packageName = '', path = ''] = /^(@nrdot\/[^/]+)(\/.*)?$/.exec(name) ?? [];
  const known = PACKAGES.get(packageName);
  const target = known?.exports[`.${path}`];
  return known && target ? join(known.dir, target) : undefined;
}

/** Part of the product, not of its tests and benchmarks. */
function isProduct(file: string): boolean {
  return /^(services|shared|cli)\//.test(file) && !/\.test\.ts$|\/(bench|test)\//.test(file);
}

function partOf(file: string): string {
  const [top = '', name = ''] = file.split('/');
  return top === 'services' || top === 'shared' ? `${top}/${name}` : top;
}

function mayImport(from: string, to: string): boolean {
  if (from === to || ABOVE_SERVICES.has(from)) return true;
  const [above, below] = [from, to].map((part) => SHARED.indexOf(part.replace('shared/', '')));
  if (from.startsWith('services/')) return below! >= 0;
  return above! >= 0 && below! >= 0 && below! < above!;
}

describe('the house', () => {
  it('has services that import only shared parts, and shared parts that import only those below them', () => {
    const wrong = FILES.filter(isProduct).flatMap((file) =>
      importsOf(file)
        .filter(({ to }) => !mayImport(partOf(file), partOf(to)))
        .map(({ to }) => `${file} imports ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  it('has no circular imports', () => {
    const circles: string[] = [];
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]) => {
      if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' → '));
      if (done.has(file) || path.includes(file)) return;
      for (const { to, isType } of TEXTS.has(file) ? importsOf(file) : [])
        if (!isType) visit(to, [...path, file]);
      done.add(file);
    };
    for (const file of FILES.filter(isProduct)) visit(file, []);
    expect(circles).toEqual([]);
  });

  it('uses the standard terms', () => {
    const wrong = FILES.filter((file) => file !== 'tests/docs/house.test.ts').flatMap((file) =>
      OLD_WORDS.filter(([word]) => word.test(TEXTS.get(file)!)).map(
        ([word, rather]) => `${file}: ${TEXTS.get(file)!.match(word)![0]}; say: ${rather}`,
      ),
    );
    expect(wrong).toEqual([]);
  });

  it('has no unused exports', () => {
    const words = new Map(FILES.map((file) => [file, new Set(TEXTS.get(file)!.match(/\w+/g))]));
    const inVain = FILES.flatMap((file) =>
      [...TEXTS.get(file)!.matchAll(/^export (?:async |abstract )*(?:const|let|function\*?|class) (\w+)/gm)]
        .map(([, name]) => name!)
        .filter((name) => !FILES.some((other) => other !== file && words.get(other)!.has(name)))
        .map((name) => `${file}: ${name}`),
    );
    expect(inVain).toEqual([]);
  });

  it(`has no file of more than ${MAX_LINES} lines except known ones, which do not grow`, () => {
    const lines = (file: string) => TEXTS.get(file)!.split('\n').length - 1;
    const tooLong = FILES.filter((file) => isProduct(file) || file.startsWith('infra/'))
      .filter((file) => lines(file) > (LONGER[file] ?? MAX_LINES))
      .map((file) => `${file}: ${lines(file)}, at most ${LONGER[file] ?? MAX_LINES}`);
    expect(tooLong).toEqual([]);
    const short = Object.keys(LONGER).filter((file) => !TEXTS.has(file) || lines(file) <= MAX_LINES);
    expect(short, 'need no word any more').toEqual([]);
  });
});
