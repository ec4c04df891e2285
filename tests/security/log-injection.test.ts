import { asText, createLogger } from '@nrdot/telemetry';
import { describe, expect, it } from 'vitest';

const HOSTILE = [
  'a\r\nb',
  'a\nlevel=error msg=forged',
  '\u001b[2J\u001b[31mred',
  'a\u009b31mb',
  'a\u2028b',
  'a\u202eb',
  '\0',
  'a\u007fb',
  '"}\n{"level":"error"',
];
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
const CONTROL = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u202e]/;

function written(format: 'json' | 'text', hostile: string): string {
  let out = '';
  const log = createLogger({
    level: 'debug',
    format,
    write: (line) => {
      out += line;
    },
  });
  log.child({ service: hostile }).warn({ said: hostile, err: hostile, deep: { list: [hostile] } }, hostile);
  return out;
}

describe('a line of the log', () => {
  it.each(HOSTILE.map((hostile) => [hostile]))(
    'is one line of JSON with %j in it, and gives it back',
    (hostile) => {
      const line = written('json', hostile);
      expect(line.trimEnd().split('\n')).toHaveLength(1);
      expect(JSON.parse(line)).toMatchObject({
        level: 'warn',
        msg: hostile,
        said: hostile,
        service: hostile,
      });
    },
  );

  it.each(HOSTILE.map((hostile) => [hostile]))(
    'for a terminal is one line without commands to it, with %j in it',
    (hostile) => {
      const line = written('text', hostile);
      expect(line.endsWith('\n') && line.indexOf('\n') === line.length - 1).toBe(true);
      expect(line).not.toMatch(CONTROL);
      expect(line).toContain(' warn ');
    },
  );

  it('is readable for normal input', () => {
    const entry = {
      level: 'warn',
      time: '2026-01-01T12:01:02.123Z',
      service: 'dlq',
      msg: 'a fault — the disk',
      path: '/a b',
      n: 1,
    };
    expect(asText(JSON.stringify(entry))).toBe(
      '12:01:02.123 warn  dlq       a fault — the disk  path="/a b" n=1\n',
    );
  });
});
