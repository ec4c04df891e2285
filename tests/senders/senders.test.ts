/**
 * What real senders send is what arrives: the SDKs of other languages, a browser and the Collector, with what they send when nobody
 * configures more than the address. `make test-senders` installs them; what is not installed is left out.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import { fromBinary, toJson } from '@bufbuild/protobuf';
import {
  Browser,
  findChromium,
  type Page,
  startMockUpstream,
  temporaryDirectory,
  waitUntil,
} from '@nrdot/testbed';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { referenceRequest } from '../../shared/otlp/test/reference.ts';
import { findCollector } from '../bench/peers/build.ts';
import { type Running, startOne, untilQuiet } from '../kit.ts';
import { startCollector } from '../servers/servers.ts';
import { commandOf, SENDERS } from './senders.ts';

const TO_INSTALL = 'make test-senders installs it';
/** Where the page comes from; another port of the same machine is another origin. */
const PAGES = ['http://localhost:*', 'http://app.localhost:*'];

// biome-ignore lint/suspicious/noExplicitAny: decoded messages, looked into field by field
type Json = any;

let dir: ReturnType<typeof temporaryDirectory>;
let mock: Awaited<ReturnType<typeof startMockUpstream>>;
let running: Running;
beforeAll(async () => {
  dir = temporaryDirectory();
  mock = await startMockUpstream({ listen: '127.0.0.1:0', keep: 1_000 });
  running = await startOne(dir.path, mock, {
    receiver: { cors: { allowed_origins: PAGES, allow_credentials: true } },
  });
});
afterAll(async () => {
  await running?.[Symbol.asyncDispose]();
  await mock?.close();
  dir?.[Symbol.dispose]();
});

/** A line for each item, as the senders print it: by signal, the resources' key, the scopes', and what is within one. */
const LINES: Readonly<Record<'traces' | 'logs' | 'metrics', [string, string, (scope: Json) => string[]]>> = {
  traces: [
    'resourceSpans',
    'scopeSpans',
    ({ spans }) => spans.map(({ traceId, spanId }: Json) => `span ${hex(traceId)} ${hex(spanId)}`),
  ],
  logs: [
    'resourceLogs',
    'scopeLogs',
    ({ logRecords }) => logRecords.map(({ body }: Json) => `log ${body.stringValue}`),
  ],
  metrics: [
    'resourceMetrics',
    'scopeMetrics',
    ({ metrics }) =>
      metrics
        .filter(({ name }: Json) => name === 'sent')
        .flatMap(({ sum }: Json) =>
          sum.dataPoints.map(
            ({ attributes: [shop], asInt, asDouble }: Json) =>
              `point sent ${shop.value.stringValue} ${asInt ?? asDouble}`,
          ),
        ),
  ],
};

/** All that arrived. */
function arrived(): string[] {
  return mock.kept().flatMap(({ path, body }) => {
    const signal = path.slice('/v1/'.length) as keyof typeof LINES;
    const [resources, scopes, linesOf] = LINES[signal];
    const schema = referenceRequest(signal);
    const request = toJson(schema, fromBinary(schema, body)) as Json;
    return (request[resources] ?? []).flatMap((resource: Json) => (resource[scopes] ?? []).flatMap(linesOf));
  });
}
const hex = (base64: string) => Buffer.from(base64, 'base64').toString('hex');

/** Waits until what was sent has arrived, and nothing else has. */
async function expectArrived(sent: readonly string[]): Promise<void> {
  await waitUntil(() => arrived().length >= sent.length, { what: `${sent.length} items arrived` }).catch(
    () => {},
  );
  await untilQuiet(running.admin);
  expect(arrived().sort()).toEqual([...sent].sort());
}

for (const sender of SENDERS) {
  const command = commandOf(sender);
  const why = command ? '' : ` (left out: ${TO_INSTALL})`;
  describe.skipIf(!command)(`the OpenTelemetry SDK of ${sender}${why}`, () => {
    it.each(['none', 'gzip'])('delivers everything sent, with compression %s', async (compression) => {
      mock.reset();
      const [program, ...args] = command!;
      const { stdout, stderr } = await promisify(execFile)(program, args, {
        env: {
          ...process.env,
          OTEL_SERVICE_NAME: 'sender',
          OTEL_EXPORTER_OTLP_ENDPOINT: running.otlp,
          OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf',
          OTEL_EXPORTER_OTLP_COMPRESSION: compression,
        },
        timeout: 240_000,
      });
      expect(stderr).not.toMatch(/fail|error|exception/i);
      const sent = stdout.trim().split('\n');
      expect(sent).toHaveLength(550);
      await expectArrived(sent);
    });
  });
}

const collector = findCollector();
describe.skipIf(!collector)(
  `the OpenTelemetry Collector${collector ? '' : ` (left out: ${TO_INSTALL})`}`,
  () => {
    it.each(['protobuf', 'json'])('delivers everything accepted, sending %s', async (format) => {
      const exporter = { endpoint: running.otlp, encoding: format === 'json' ? 'json' : 'proto' };
      await using started = await startCollector(collector!, dir.path, exporter, { batch: true });
      const { url: endpoint, process } = started;
      mock.reset();
      const ids = Array.from({ length: 1_000 }, () => [randomBytes(16), randomBytes(8)] as const);
      const spans = ids.map(([traceId, spanId]) => ({
        traceId: traceId.toString('hex'),
        spanId: spanId.toString('hex'),
        name: 'through the Collector',
      }));
      const logRecords = ids.map((_, i) => ({ body: { stringValue: `line ${i}` } }));
      const post = async (signal: string, body: object) => {
        const headers = { 'content-type': 'application/json' };
        const init = { method: 'POST', headers, body: JSON.stringify(body) };
        expect((await fetch(`${endpoint}/v1/${signal}`, init)).status).toBe(200);
      };
      await post('traces', { resourceSpans: [{ scopeSpans: [{ spans }] }] });
      await post('logs', { resourceLogs: [{ scopeLogs: [{ logRecords }] }] });
      await process.end('SIGTERM'); // sends what it has
      await expectArrived([
        ...spans.map(({ traceId, spanId }) => `span ${traceId} ${spanId}`),
        ...logRecords.map(({ body }) => `log ${body.stringValue}`),
      ]);
    });
  },
);

const chromium = findChromium();
const noChromium = chromium
  ? ''
  : ' (left out: there is no Chromium; on Debian: apt-get install -y chromium)';
describe.skipIf(!chromium)(`a page in a browser${noChromium}`, () => {
  let site: Server;
  let browser: Browser;
  let page: Page;
  const origin = (host: string) => `http://${host}:${(site.address() as AddressInfo).port}`;
  beforeAll(async () => {
    site = createServer((_, response) => {
      response.setHeader('content-type', 'text/html');
      response.setHeader('set-cookie', 'session=word; SameSite=Lax');
      response.end('<!doctype html><title>a page</title>');
    }).listen(0, '127.0.0.1');
    await once(site, 'listening');
    browser = await Browser.start(chromium!);
    page = await browser.page();
  });
  afterAll(async () => {
    await browser?.[Symbol.asyncDispose]();
    site?.close();
  });

  it.each(['localhost', 'app.localhost'])(
    'sends with the OpenTelemetry SDK of JavaScript, from %s',
    async (host) => {
      mock.reset();
      const { outputFiles } = await build({
        stdin: { contents: PAGE_PROGRAM, resolveDir: import.meta.dirname, loader: 'js' },
        bundle: true,
        platform: 'browser',
        format: 'esm',
        write: false,
        logLevel: 'silent',
      });
      await page.goto(origin(host));
      const sent = await page.value<string[]>(
        `(async () => { const { send } = await import(URL.createObjectURL(new Blob([${JSON.stringify(outputFiles[0]!.text)}], { type: 'text/javascript' }))); return send(${JSON.stringify(running.otlp)}); })()`,
      );
      expect(sent).toHaveLength(100);
      await expectArrived(sent);
    },
  );

  it('sends by fetch and by sendBeacon, which sends credentials', async () => {
    mock.reset();
    await page.goto(origin('localhost'));
    const log = (text: string) =>
      JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords: [{ body: { stringValue: text } }] }] }] });
    const url = JSON.stringify(`${running.otlp}/v1/logs`);
    const status = await page.value<number>(
      `fetch(${url}, { method: 'POST', credentials: 'include', headers: { 'content-type': 'application/json' }, body: ${JSON.stringify(log('by fetch'))} }).then((response) => response.status)`,
    );
    expect(status).toBe(200);
    expect(
      await page.value<boolean>(
        `navigator.sendBeacon(${url}, new Blob([${JSON.stringify(log('by beacon'))}], { type: 'application/json' }))`,
      ),
    ).toBe(true);
    await expectArrived(['log by fetch', 'log by beacon']);
  });

  it('of another site is refused by the browser', async () => {
    await page.goto(origin('127.0.0.1'));
    const refused = await page.value<string>(
      `fetch(${JSON.stringify(`${running.otlp}/v1/logs`)}, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' }).then(() => 'read', String)`,
    );
    expect(refused).toContain('Failed to fetch');
  });
});

/** Spans in batches by OTLP/JSON, as the SDK sends them from pages. */
const PAGE_PROGRAM = `
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
export async function send(endpoint) {
  const exporter = new OTLPTraceExporter({ url: endpoint + '/v1/traces' });
  const provider = new TracerProvider({ spanProcessors: [new BatchSpanProcessor({ exporter })] });
  const sent = [];
  for (let i = 0; i < 100; i++) {
    const span = provider.getTracer('page').startSpan('click ' + i);
    span.end();
    const { traceId, spanId } = span.spanContext();
    sent.push('span ' + traceId + ' ' + spanId);
  }
  await provider.shutdown();
  return sent;
}
`;
