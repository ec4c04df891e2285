import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createLogger } from './log.ts';
import { type Transition, Transitions, WELL } from './transitions.ts';

beforeEach(() => void vi.useFakeTimers({ now: 1_000_000 }));
afterEach(() => void vi.useRealTimers());

function told() {
  const lines: string[] = [];
  const events: Transition[] = [];
  const log = createLogger({
    level: 'info',
    format: 'json',
    write: (line) => void lines.push((JSON.parse(line) as { msg: string }).msg),
  });
  return {
    lines,
    events,
    transitions: new Transitions({ log, service: 'exporter', record: (event) => void events.push(event) }),
  };
}

describe('transitions', () => {
  it('are reported once each, with the duration of a problem, in the log and in the history', () => {
    const { lines, events, transitions } = told();
    const back = { message: (lasted: string) => `back after ${lasted}` };
    transitions.to('redis', WELL, back); // as it was
    for (let i = 0; i < 5; i++) transitions.to('redis', 'away', { message: 'Redis is away' });
    vi.advanceTimersByTime(30_000);
    transitions.to('redis', 'unfit', { level: 'error', message: 'Redis evicts' });
    vi.advanceTimersByTime(12_000);
    transitions.to('redis', WELL, back);
    transitions.to('redis', WELL, back);
    expect(lines).toEqual(['Redis is away', 'Redis evicts', 'back after 42 s']);
    expect(events).toMatchObject([
      { at: 1_000_000, service: 'exporter', subject: 'redis', state: 'away', level: 'warn' },
      { state: 'unfit', level: 'error', lastedMs: 30_000 },
      { state: WELL, level: 'info', lastedMs: 42_000 },
    ]);
    expect(events[0]).not.toHaveProperty('lastedMs');
  });

  it('tell how long a trouble lasted, whatever the clock has done meanwhile', () => {
    let [wall, steady] = [5_000_000, 5_000_000];
    const events: Transition[] = [];
    const transitions = new Transitions({
      log: createLogger({ level: 'silent', format: 'json' }),
      service: 'exporter',
      record: (event) => void events.push(event),
      now: () => wall,
      steadyNow: () => steady,
    });
    transitions.to('redis', 'away', { message: 'away' });
    wall -= 3_600_000;
    steady += 7_000;
    transitions.to('redis', WELL, { message: (lasted) => `back after ${lasted}` });
    expect(events[1]).toMatchObject({ at: wall, lastedMs: 7_000, message: 'back after 7 s' });
  });

  it('of a flapping subject are counted: six lines a minute, then one for the rest', () => {
    const { lines, events, transitions } = told();
    for (let i = 0; i < 50; i++) {
      transitions.to('breaker', i % 2 === 0 ? 'open' : WELL, { message: `change ${i}` });
      vi.advanceTimersByTime(100);
    }
    expect(lines).toHaveLength(6);
    vi.advanceTimersByTime(60_000);
    expect(lines).toHaveLength(7);
    expect(lines.at(-1)).toBe('change 49 (44 changes in 60 s, this is the last one)');
    expect(events.at(-1)).toMatchObject({ state: WELL, untold: 44 });
    vi.advanceTimersByTime(120_000);
    expect(lines).toHaveLength(7); // it has been quiet since
    transitions.to('breaker', 'open', { message: 'again' });
    expect(lines.at(-1)).toBe('again');
  });

  it('without a state are counted in the same way', () => {
    const { lines, transitions } = told();
    for (let i = 0; i < 1_000; i++) transitions.happened('limiter_policy', `decision ${i}`);
    vi.advanceTimersByTime(60_000);
    expect(lines).toHaveLength(7);
    expect(lines.at(-1)).toBe('decision 999 (994 changes in 60 s, this is the last one)');
  });

  it('have a sentence for people, and fields for programs', () => {
    const lines: string[] = [];
    const log = createLogger({ level: 'info', format: 'text', write: (line) => void lines.push(line) });
    new Transitions({ log: log.child({ service: 'dlq' }), service: 'dlq' }).to('disk', 'full', {
      message: 'Full.',
    });
    expect(lines[0]).toMatch(/^\S+ warn {2}dlq {7}Full\.\n$/);
  });

  it('of different subjects and services have separate limits', () => {
    const { lines, transitions } = told();
    const other = transitions.of(createLogger({ level: 'silent', format: 'json' }), 'dlq');
    for (let i = 0; i < 600; i++) transitions.to(`upstream:${i}`, 'failing', { message: 'it fails' });
    expect(lines).toHaveLength(600);
    expect(other.stateOf('upstream:599')).toBe(WELL);
    expect(transitions.stateOf('upstream:599')).toBe('failing');
    expect(transitions.stateOf('upstream:0')).toBe(WELL); // so many are not remembered
  });
});
