/** docs/new-relic.md, "Ten minutes", followed from the top, with an upstream that demands what New Relic does in its place. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CATALOGUE, type MetricSpec } from '@nrdot/telemetry';
import {
  freePort,
  type Process,
  startMockUpstream,
  startNrdot,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { expect, it } from 'vitest';
import { readPoints } from '../../shared/otlp/test/own-metrics.ts';
import { untilQuiet } from '../kit.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const guide = /^## Ten minutes.*?(?=^## )/ms.exec(readFileSync(`${ROOT}docs/new-relic.md`, 'utf8'))![0];
const blocks = (language: string) =>
  [...guide.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map(
    ([, text = '']) => text,
  );
const KEY = 'abcdef0123456789abcdef0123456789abcdNRAL';
/** Has nothing to say before it has seen more of a day than a test lasts. */
const LATER = 'cl_daily_keys_forecast';
/** Of what is sent: "--rate 500 --duration 10s". */
const ITEMS = 5_000;

it('leads from a license key to a dashboard', async () => {
  using dir = temporaryDirectory();
  const arrived = new Set<string>();
  const mock = await startMockUpstream({
    listen: '127.0.0.1:0',
    behaviour: { newRelic: true },
    taken: (signal, body) => {
      if (signal !== 'metrics' || !body.includes('service.instance.id')) return;
      for (const { name, resource } of readPoints(body))
        if (resource['service.name'] === 'nrdot') arrived.add(name);
    },
  });
  const [admin, otlp, dlq] = [await freePort(), await freePort(), await freePort()];

  // Step 1, but for the place, free ports and a minute that is not waited for.
  const [yaml = '', ...otherYaml] = blocks('yaml');
  expect(otherYaml).toEqual([]);
  expect(yaml).toContain('endpoint: https://otlp.nr-data.net');
  const config = yaml
    .replace('https://otlp.nr-data.net', `${mock.url}\n  preset: newrelic`)
    .replace(/^( +)endpoint: pipeline.*$/m, '$&\n$1interval: 1s');
  writeFileSync(
    join(dir.path, 'nrdot.yaml'),
    `${config}receiver: {listen: 127.0.0.1:${otlp}}\nadmin: {listen: 127.0.0.1:${admin}}\ndlq: {listen: 127.0.0.1:${dlq}}\ncheck: {sample: 1}\n`,
  );

  const env: Record<string, string> = { NO_COLOR: '1' };
  let up: Process | undefined;
  const commands = blocks('sh')
    .join('')
    .split('\n')
    .map((line) => line.replace(/ #.*/, '').trim())
    .filter(Boolean);
  expect(commands.length).toBeGreaterThan(5);
  try {
    for (const command of commands) {
      const [, name, value] = /^export (\w+)=(\S+)$/.exec(command) ?? [];
      if (name) {
        expect([name, value]).toEqual(['NEW_RELIC_LICENSE_KEY', 'YOUR_KEY']);
        env[name] = KEY;
        continue;
      }
      const [, words = ''] = /^npx nrdot (.*)$/.exec(command) ?? [];
      expect(words, command).not.toBe('');
      const args = words.split(' ');
      if (args[0] === 'generate') args.push('--endpoint', `http://127.0.0.1:${otlp}`);
      const process = startNrdot(args, env, dir.path);
      if (args[0] === 'up') {
        up = process;
        await up.line(/send OTLP\/HTTP to/);
        continue;
      }
      await waitUntil(() => !process.running, { what: `${command} has ended` });
      // What was just sent may still be in flight: that is no fault, and no loss.
      expect([0, ...(args[0] === 'status' ? [3] : [])], `${command}: ${process.output()}`).toContain(
        process.child.exitCode,
      );
      if (args[0] === 'generate') await untilQuiet(`http://127.0.0.1:${admin}`, 60_000);
    }
    const { items, newRelic, byStatus } = mock.stats();
    expect(Object.keys(byStatus)).toEqual(['200']);
    expect(items).toBeGreaterThanOrEqual(ITEMS);
    // The generator makes exemplars; its own metrics break no rule.
    expect(Object.keys(newRelic).filter((rule) => rule !== 'exemplar')).toEqual([]);

    // Step 6: what the dashboard asks for is there, but for what has not happened yet.
    const dashboard = readFileSync(`${ROOT}infra/newrelic/dashboards/nrdot.json`, 'utf8');
    const asked = new Set(
      [...dashboard.matchAll(/metricName (?:= |IN \()([^)]*?)(?:\)| [A-Z]|")/g)].flatMap(
        ([, names = '']) => names.match(/\w+/g)!,
      ),
    );
    const counts = new Set(
      Object.values<MetricSpec>(CATALOGUE).flatMap(({ name, type }) => (type === 'gauge' ? [] : [name])),
    );
    const missing = () =>
      [...asked].filter((name) => name !== LATER && !arrived.has(name) && !counts.has(name));
    await waitUntil(() => missing().length === 0, { what: `the dashboard has what it asks for` }).catch(
      (error) => {
        throw new Error(`${error.message}: ${missing()}`);
      },
    );
    expect(asked.size).toBeGreaterThan(50);
    for (const name of [
      'receiver_items_total',
      'exporter_delivered_items_total',
      'receiver_request_seconds',
      'pipeline_end_to_end_seconds',
    ])
      expect([...arrived]).toContain(name);
  } finally {
    await up?.end('SIGTERM').catch(() => {});
    await mock.close();
  }
});
