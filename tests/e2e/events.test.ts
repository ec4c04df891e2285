/** An outage in the log and in the history of events: one line for each change, with cause, duration and items. */
import type { Events } from '@nrdot/status';
import { generate, startMockUpstream, startNrdot, temporaryDirectory, waitUntil } from '@nrdot/testbed';
import { expect, it } from 'vitest';
import { startOne, untilQuiet } from '../kit.ts';

interface Line {
  level: string;
  event?: string;
  state?: string;
  msg: string;
}

it('reports an outage and its end once each, in the log and across a restart', async () => {
  using dir = temporaryDirectory();
  const mock = await startMockUpstream({ listen: '127.0.0.1:0' });
  const config = { breaker: { open_min: '200ms', open_max: '500ms' } };
  let running = await startOne(dir.path, mock, config);
  const linesOf = (event: string) =>
    running.processes
      .up!.output(2_000)
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Line)
      .filter((line) => line.event === event);
  mock.set({ outage: true });
  await generate({ endpoint: running.otlp, items: 2_000, batchSize: 50 });
  await waitUntil(() => linesOf('upstream').length > 0, { what: 'the log reports the outage' });
  await waitUntil(() => linesOf('replay').length > 0, { what: 'the log reports that data is on disk' });
  mock.set({ outage: false });
  await untilQuiet(running.admin);
  await waitUntil(() => linesOf('upstream').length > 1, { what: 'the log reports its end' });
  await waitUntil(() => linesOf('replay').length > 1, { what: 'the log reports that the disk is empty' });
  const [began, ended, ...more] = linesOf('upstream');
  expect(began).toMatchObject({ level: 'warn', state: 'failures' });
  expect(began!.msg).toMatch(
    /^Delivery is paused: the upstream fails — connection (closed|reset) by the peer\. New data goes to disk\./,
  );
  expect(ended).toMatchObject({ level: 'info', state: 'well' });
  expect(ended!.msg).toMatch(
    /^The upstream accepts data again after \d+ s\. [\d,]+ items? in Redis, [\d,]+ on disk\./,
  );
  expect(more).toEqual([]);

  const before = await waitUntil(
    async () => {
      const answer = (await (await fetch(`${running.admin}/api/events`)).json()) as Events;
      return answer.events.filter(({ subject }) => subject === 'upstream').length === 2 ? answer : undefined;
    },
    { what: 'the history has both' },
  );
  await running[Symbol.asyncDispose]();
  running = await startOne(dir.path, mock, config);
  const after = (await (await fetch(`${running.admin}/api/events`)).json()) as Events;
  expect(after.events).toEqual(expect.arrayContaining(before.events));
  expect((await fetch(`${running.admin}/api/events?limit=0`)).status).toBe(400);

  await using shown = startNrdot(['events', '--admin', running.admin], {}, dir.path);
  await shown.line(/Z {2}warn {3}scheduler {2}Delivery is paused/);
  await shown.line(/Z {2}info {3}scheduler {2}The upstream accepts data again/);
  await running[Symbol.asyncDispose]();
  await mock.close();
});
