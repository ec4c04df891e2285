/** The compose stack under load: scaled, cut off, killed, restarted. What was acknowledged has to arrive. */
import { type GenerateReport, generate, type SequenceSet, waitUntil } from '@nrdot/testbed';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { buildImage, docker, hasImage, whyNoEngine } from './engine.ts';
import { Stack } from './stack.ts';

const why = whyNoEngine();
const MEBIBYTE = 1024 * 1024;
let stack: Stack;

/** Everything acknowledged is there, once the pipeline is quiet. */
async function expectAllArrived(report: GenerateReport, ...kept: (SequenceSet | undefined)[]) {
  expect(await stack.missing(report, ...kept)).toBe('');
}

describe.skipIf(why)(`the compose stack${why ? ` (skipped: ${why})` : ''}`, () => {
  beforeAll(async () => {
    await buildImage();
    stack = await Stack.plan();
    await stack.up();
  });
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') console.error(await stack.logs());
  });
  afterAll(async () => {
    await stack?.[Symbol.asyncDispose]();
  });

  it('is up with limits, and reachable only on loopback', async () => {
    const all = await stack.containers();
    for (const { Name, HostConfig, NetworkSettings, Config } of all) {
      const service = Config.Labels['com.docker.compose.service']!;
      expect(HostConfig.ReadonlyRootfs, Name).toBe(true);
      expect(HostConfig.CapDrop, Name).toEqual(['ALL']);
      expect(HostConfig.RestartPolicy.Name, Name).toBe('unless-stopped');
      expect(HostConfig.PidsLimit, Name).toBe(256);
      if (!['redis', 'prometheus'].includes(service)) expect(HostConfig.Memory, Name).toBe(150 * MEBIBYTE);
      const published = Object.values(NetworkSettings.Ports).flatMap((bindings) => bindings ?? []);
      expect(
        published.every(({ HostIp }) => HostIp === '127.0.0.1'),
        Name,
      ).toBe(true);
      expect(published, Name).toHaveLength(['receiver', 'scheduler', 'prometheus'].includes(service) ? 1 : 0);
    }
    const network = JSON.parse(await docker('network', 'inspect', `${stack.project}_pipeline`));
    expect(network[0].Internal).toBe(true);
  });

  it('delivers what an OpenTelemetry SDK sends', async () => {
    const before = await stack.mockStats();
    const provider = new TracerProvider({
      resource: resourceFromAttributes({ 'service.name': 'checkout' }),
      spanProcessors: [
        new BatchSpanProcessor({
          exporter: new OTLPTraceExporter({ url: `${stack.endpoint()}/v1/traces` }),
        } as never),
      ],
    });
    const tracer = provider.getTracer('checkout');
    for (let i = 0; i < 100; i++) tracer.startSpan(`GET /cart/${i}`).end();
    await provider.shutdown();
    await waitUntil(async () => (await stack.mockStats()).items === before.items + 100, {
      what: '100 spans arrived',
      everyMs: 200,
    });
  });

  it.runIf(hasImage('prom/prometheus'))('is scraped by Prometheus, container by container', async () => {
    const query = `http://127.0.0.1:${stack.prometheusPort}/api/v1/query?query=up%3D%3D1`;
    await waitUntil(
      async () => {
        const { data } = (await (await fetch(query)).json()) as {
          data: { result: { metric: { service?: string } }[] };
        };
        const up = new Set(data.result.map(({ metric }) => metric.service));
        return ['receiver', 'scheduler', 'exporter', 'dlq'].every((service) => up.has(service));
      },
      { what: 'all services are up in Prometheus', everyMs: 500 },
    );
    const [scheduler] = await stack.containers('scheduler');
    const url = `http://127.0.0.1:${scheduler!.NetworkSettings.Ports['8888/tcp']![0]!.HostPort}/metrics`;
    expect((await fetch(url)).status).toBe(401);
    expect((await fetch(url, { headers: { authorization: `Bearer ${await stack.token()}` } })).status).toBe(
      200,
    );
  });

  it('scales under load to three exporters, two receivers and two schedulers, all of them working', async () => {
    const port = (await stack.containers('receiver'))[0]!.NetworkSettings.Ports['4318/tcp']![0]!.HostPort;
    const first = stack.loading(Number(port) - stack.otlpPort);
    await first.more(1_000);
    await stack.up({ exporter: 3, receiver: 2, scheduler: 2 });
    const second = stack.loading(1 - (Number(port) - stack.otlpPort));
    await second.more(3_000);
    const reports = [await first.end(), await second.end()];
    for (const report of reports) await expectAllArrived(report);
    const exporters = await stack.containers('exporter');
    expect(exporters).toHaveLength(3);
    for (const { Id, Name } of exporters) {
      const metrics = await stack.ask(Id, 8888, '/metrics');
      const delivered = [...metrics.matchAll(/^exporter_delivered_items_total\{.*\} (\d+)$/gm)];
      expect(
        delivered.reduce((sum, [, n]) => sum + Number(n), 0),
        Name,
      ).toBeGreaterThan(0);
    }
  });

  it('loses nothing while the upstream container is stopped and started', async () => {
    const load = stack.loading();
    await load.more(1_000);
    const kept = await stack.cutUpstream(load.run);
    await stack.compose('stop', '--timeout', '3', 'mock-upstream');
    await load.more(3_000);
    await stack.compose('start', 'mock-upstream');
    await load.more(1_000);
    await expectAllArrived(await load.end(), kept.get(load.run));
  });

  it('loses nothing while each container in turn is killed', async () => {
    const loads = [stack.loading(0), stack.loading(1)];
    const kept: Map<number, SequenceSet>[] = [];
    for (const service of ['receiver', 'scheduler', 'exporter', 'dlq', 'redis', 'mock-upstream']) {
      await Promise.all(loads.map((load) => load.more(500)));
      const [container] = await stack.containers(service);
      if (service === 'mock-upstream') kept.push(await stack.cutUpstream(...loads.map(({ run }) => run)));
      await stack.crash(container!);
    }
    await Promise.all(loads.map((load) => load.more(500)));
    // The pipeline is not quiet before both have ended.
    const reports = await Promise.all(loads.map((load) => load.end()));
    for (const report of reports)
      await expectAllArrived(report, ...kept.map((before) => before.get(report.run)));
  });

  it('loses nothing when Redis is restarted', async () => {
    const load = stack.loading();
    await load.more(1_000);
    await stack.compose('restart', 'redis');
    await load.more(1_000);
    await expectAllArrived(await load.end());
  });

  it('sends to New Relic with the key of the environment, and reports a missing key', async () => {
    // The mock upstream in New Relic's place: it refuses what comes without the key.
    const [mock] = await stack.containers('mock-upstream');
    const behave = (requireHeaders: Record<string, string>) =>
      docker(
        ...['exec', mock!.Id, 'node', '-e'],
        `fetch('http://127.0.0.1:4320/_mock/behaviour', { method: 'PUT', body: '${JSON.stringify({ requireHeaders })}' })`,
      );
    await behave({ 'api-key': 'a-license-key' });
    await stack.compose('stop', '--timeout', '10', 'exporter');
    const start = ['--profile', 'newrelic', 'up', '-d', '--no-build', '--no-deps', 'exporter-newrelic'];
    await stack.compose(...start);
    await waitUntil(
      async () => (await stack.compose('logs', 'exporter-newrelic')).includes('NEW_RELIC_LICENSE_KEY'),
      { what: 'the exporter reports the missing key', everyMs: 300 },
    );
    await stack.composeWith(
      { NEW_RELIC_LICENSE_KEY: 'a-license-key', NEW_RELIC_OTLP_ENDPOINT: 'http://mock-upstream:4320' },
      ...start,
    );
    const report = await stack.send(1_000);
    await expectAllArrived(report);
    await stack.compose('--profile', 'newrelic', 'rm', '-sf', 'exporter-newrelic');
    await behave({});
    await stack.compose('start', 'exporter');
  });

  it('holds 10,000 spans/s with every service within its memory limit', async () => {
    const report = await generate({
      endpoint: stack.endpoint(),
      rate: 10_000,
      durationMs: 5_000,
      retryInitialMs: 50,
    });
    await expectAllArrived(report);
    for (const container of await stack.containers()) {
      expect(container.State.OOMKilled, container.Name).toBe(false);
      const { most } = await stack.memory(container);
      if (container.HostConfig.Memory === 150 * MEBIBYTE) expect(most, container.Name).toBeLessThan(150);
    }
  });
});
