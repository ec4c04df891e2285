import type { PipelineStatus } from '@nrdot/scheduler';
import { describe, expect, it } from 'vitest';
import { statusLine, statusLines } from './status-view.ts';
import { clipped } from './terminal.ts';

/** What is known when neither Redis nor a service has said anything. */
const BARE: PipelineStatus = {
  at: Date.UTC(2026, 0, 2, 3, 4, 5),
  findings: [
    { level: 'fault', code: 'redis_away', text: 'Redis cannot be used: it is away.', more: 'Look at it.' },
    { level: 'note', code: 'x', text: `A long one: ${'word '.repeat(40)}end.` },
  ],
  redis: { problem: 'it is away' },
  services: [],
  rates: {
    requests: 0,
    refusedRequests: 0,
    received: 1_234.4,
    accepted: 0,
    limiterDropped: 0,
    moved: { critical: 0, high: 0, normal: 0 },
    delivered: 0,
    stored: 0,
    replayed: 0,
  },
};

describe('the status of a pipeline', () => {
  it('says what is not known, and fits its width', () => {
    for (const columns of [72, 100, 120]) {
      const lines = statusLines(BARE, { url: 'http://here', colour: false, columns });
      expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(columns);
      const text = lines.join('\n');
      expect(text).toContain('NRDOT+  2026-01-02T03:04:05Z  http://here');
      expect(text).toMatch(/^FAULT {6}Redis cannot be used: it is away\. Look at it\.$/m);
      expect(text).toMatch(/^books {6}not known without Redis$/m);
      expect(text).toContain('no dlq answers');
      expect(text).not.toMatch(/NaN|undefined/);
      expect(text).not.toContain('\u001b');
    }
  });

  it('is one line for a pipe', () => {
    expect(statusLine(BARE)).toBe(
      '2026-01-02T03:04:05Z  FAULT  received 1,234/s  delivered 0/s  in Redis ?  on disk ?  breaker ?  difference ?  Redis cannot be used: it is away.',
    );
  });

  it('has colours where they are wanted, which take no room', () => {
    const lines = statusLines(BARE, { url: 'http://here', colour: true });
    expect(lines.join('\n')).toContain('\u001b[31mFAULT      \u001b[0m');
    expect(clipped('\u001b[1mabc\u001b[0mdef', 4)).toBe('\u001b[1mabc\u001b[0md');
  });
});
