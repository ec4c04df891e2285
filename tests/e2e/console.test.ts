/** The console in a real headless Chromium, over an outage. What it looked like is kept in tests/artifacts/console. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  Browser,
  findChromium,
  generate,
  type Page,
  startMockUpstream,
  temporaryDirectory,
  type View,
} from '@nrdot/testbed';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Running, startOne } from '../kit.ts';

const ARTIFACTS = fileURLToPath(new URL('../artifacts/console/', import.meta.url));
const chromium = findChromium();
const why = chromium ? '' : ' (left out: there is no Chromium; on Debian: apt-get install -y chromium)';
const TOKEN = 'console-test-token';
const VIEWS: Record<string, View> = {
  '1280-dark': { width: 1280, height: 900, scheme: 'dark' },
  '1280-light': { width: 1280, height: 900, scheme: 'light' },
  '390-dark': { width: 390, height: 844, scheme: 'dark' },
  '390-light': { width: 390, height: 844, scheme: 'light' },
};
const LIVE = `document.querySelector('#pulse').textContent === 'live'`;
const find = (selector: string) => `document.querySelector(${JSON.stringify(selector)})`;
const text = (selector: string) => `${find(selector)}.textContent`;
const number = (selector: string) => `Number(${text(selector)}.replace(/[^0-9]/g, ''))`;
/** A label as somebody might send it. */
const HOSTILE = '<img src=x onerror=document.title="taken">';

describe.skipIf(!chromium)(`the console${why}`, () => {
  let dir: ReturnType<typeof temporaryDirectory>;
  let mock: Awaited<ReturnType<typeof startMockUpstream>>;
  let running: Running;
  let browser: Browser;
  let page: Page;
  const shoot = async (name: string, view: string) => {
    await page.view(VIEWS[view]!);
    // Colours and widths are where they are going. To wait for that may take for ever: while numbers change,
    // a new transition starts before the last one ends.
    await page.value(
      `document.getAnimations().forEach((a) => { if (a instanceof CSSTransition) a.finish(); })`,
    );
    await page.screenshot(join(ARTIFACTS, `${name}-${view}.png`));
  };
  const load = (items: number) =>
    generate({
      endpoint: running.otlp,
      items,
      batchSize: 50,
      rate: 4_000,
      connections: 4,
      signals: { traces: 2, logs: 1 },
      classes: { critical: 2, high: 3, normal: 5 },
    });

  beforeAll(async () => {
    dir = temporaryDirectory();
    mock = await startMockUpstream({ listen: '127.0.0.1:0' });
    running = await startOne(dir.path, mock, {
      admin: { token: TOKEN },
      breaker: { open_min: '3s', open_max: '3s' },
      dlq: { replay_rate: '64KiB' },
      limiter: { daily_keys: 2_000 },
      exporter: { account_limits: { points_per_minute: 1_000_000, bytes_per_minute: '10GB' } },
    });
    browser = await Browser.start(chromium!);
    page = await browser.page();
    await page.view(VIEWS['1280-dark']!);
  });
  afterAll(async () => {
    await browser?.[Symbol.asyncDispose]();
    await running?.[Symbol.asyncDispose]();
    await mock.close();
    dir[Symbol.dispose]();
  });

  it('shows nothing without the token, reports a wrong one, and keeps it only in the tab', async () => {
    await page.goto(`${running.admin}/`);
    await page.until(`!${find('#token')}.hidden && document.activeElement.id === 'token-value'`);
    expect(await page.value(`${find('#main')}.hidden`)).toBe(true);
    await page.type('wrong');
    await page.press('Enter');
    await page.until(`${text('#token-problem')} !== '' && !${find('#token')}.hidden`);
    await page.type(TOKEN);
    await page.press('Enter');
    await page.until(LIVE);
    expect(await page.value(`${find('#main')}.hidden`)).toBe(false);
    expect(await page.value('Object.keys(localStorage).length')).toBe(0);
    expect(page.requests.filter((url) => url.includes(TOKEN) || !url.startsWith(running.admin))).toEqual([]);
    // The browser itself reports each 401, and nothing else is reported.
    expect(page.errors.filter((error) => !error.includes('401'))).toEqual([]);
    page.errors.length = 0;
  });

  it('shows the data flow, and renders names from clients as text', async () => {
    const points = Array.from({ length: 300 }, (_, i) => ({
      asInt: '1',
      timeUnixNano: '1700000000000000000',
      attributes: [{ key: HOSTILE, value: { stringValue: `value ${i}` } }],
    }));
    // Labels are scored from the request on that comes after the 256th key-set.
    for (let i = 0; i < 2; i++) {
      const answer = await fetch(`${running.otlp}/v1/metrics`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          resourceMetrics: [
            { scopeMetrics: [{ metrics: [{ name: 'hostile', gauge: { dataPoints: points } }] }] },
          ],
        }),
      });
      expect(answer.status).toBe(200);
    }
    const sent = load(4_000);
    await page.until(`${find('[data-edge=delivered]')}.dataset.moving === 'true'`);
    await sent;
    await page.until(`${number('.books .delivered td')} >= 4600 && ${text('.books .sum td')} === '0'`);
    await page.until(
      `[...document.querySelectorAll('.labels td')].some((td) => td.textContent === ${JSON.stringify(HOSTILE)})`,
    );
    // Told every 5 s, and shown within two.
    await page.until(
      `${text('.daily tbody td')} === 'hostile' && ${number('.daily tbody td:nth-child(2)')} > 280`,
    );
    expect(await page.text('#limiter')).toMatch(/\d+ series since midnight UTC, at most 2,000 per metric/);
    expect(await page.text('#breaker')).toMatch(
      /Account limits\s+\d+ % of .* a minute, \d+ % of .* a minute/,
    );
    expect(await page.value(`document.querySelectorAll('main img').length`)).toBe(0);
    expect(await page.value('document.title')).toContain('NRDOT+');
    await page.until(`${text('.findings li strong')}.startsWith('Everything flows')`);
    await shoot('quiet', '1280-dark');
  });

  it('shows an outage: the breaker with its countdown, and blocks on disk', async () => {
    mock.set({ outage: true });
    const sent = load(4_000);
    await page.until(`${find('#breaker')}.dataset.state === 'open'`);
    // Of the signals that were sent since; those that were sent before may have a breaker that is closed.
    expect(await page.text('#headline')).toMatch(
      /Delivery( of [a-z, ]+)? (is paused|has been paused for \d+ s): the upstream fails — .*\n?.*New (data goes|[a-z, ]+ go) to disk/,
    );
    const left = `parseFloat(${text('#breaker .countdown')})`;
    await page.until(`${left} > 0`);
    const before = await page.value<number>(left);
    expect(before).toBeLessThanOrEqual(3);
    await page.until(`${left} < ${before} || ${text('#breaker .countdown')} === 'now'`);
    expect(await page.value(`${find('[data-box=upstream]')}.dataset.level`)).toBe('fault');
    await sent;
    for (const priorityClass of ['critical', 'high', 'normal']) {
      await page.until(`${find(`.areas .${priorityClass} .blocks > li`)}`);
    }
    await page.until(`${number('.books .on_disk td')} > 2000 && ${text('.books .dropped td')} === '0'`);
    await page.until(`document.querySelectorAll('.bands rect').length > 0`);
    for (const view of Object.keys(VIEWS)) {
      await page.view(VIEWS[view]!);
      const [content, window] = await page.value<[number, number]>(
        '[document.documentElement.scrollWidth, innerWidth]',
      );
      expect(content, view).toBeLessThanOrEqual(VIEWS[view]!.width);
      expect(window, view).toBe(VIEWS[view]!.width);
      // Half-open for as long as every batch still waits for its own next try.
      await page.until(`${find('#breaker')}.dataset.state !== 'closed'`);
      await shoot('outage', view);
    }
    await page.view(VIEWS['1280-dark']!);
  });

  it('lists what has changed, newest first, as text', async () => {
    await page.until(`/Delivery( of [a-z, ]+)? (is|has been) paused/.test(${text('#event-list')})`);
    expect(await page.value(`${find('#event-list tr[data-level=warning]')}.children[1].textContent`)).toBe(
      'warning',
    );
    expect(await page.value(`document.querySelectorAll('#event-list td img').length`)).toBe(0);
  });

  it('keeps the history across a reload', async () => {
    await page.goto(`${running.admin}/console`);
    await page.until(`${LIVE} && document.querySelectorAll('.bands rect').length > 0`);
    expect(await page.value(`${find('.plot svg')}.getAttribute('aria-label')`)).toMatch(
      /In and out.*at most/,
    );
  });

  it('shows the recovery: replay with its progress, and an empty disk', async () => {
    await page.value(`fetch('api/config/apply', {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer ${TOKEN}' },
      body: JSON.stringify({ dlq: { replay_rate: '4MiB' } }),
    })`);
    mock.set({ outage: false });
    await page.until(`${find('#breaker')}.dataset.state === 'closed'`);
    await page.until(
      `document.querySelector('.blocks > [data-state=replaying]') || ${text('#disk .state')} === 'Empty'`,
    );
    await shoot('recovery', '1280-light');
    await page.until(`${text('#disk .state')} === 'Empty' && ${text('.books .sum td')} === '0'`);
    await page.until(
      `/The upstream accepts data again/.test(${text('#event-list tbody')}) && /The disk is empty/.test(${text('#event-list tbody tr')})`,
    );
    await page.until(`${text('.findings li strong')}.startsWith('Everything flows')`);
  });

  it('can be used by keyboard, and has a colour theme switch', async () => {
    await page.goto(`${running.admin}/`);
    await page.until(LIVE);
    await page.view(VIEWS['1280-dark']!);
    const reached: string[] = [];
    for (let i = 0; i < 20; i++) {
      await page.press('Tab');
      reached.push(
        await page.value(`document.activeElement.id || document.activeElement.textContent.trim()`),
      );
      const visible = await page.value<boolean>(
        `getComputedStyle(document.activeElement).outlineStyle !== 'none' && document.activeElement.getBoundingClientRect().height > 0`,
      );
      expect(visible, reached.at(-1)).toBe(true);
      if (reached.at(-1)?.startsWith('▸') || reached.at(-1)?.startsWith('Configurationin')) break;
    }
    expect(reached).toEqual(
      expect.arrayContaining([
        'Skip to the state',
        'Last 15 minutes',
        'Events',
        'Configuration',
        'queues',
        'forget',
        'theme',
      ]),
    );
    const background = () => page.value<string>('getComputedStyle(document.body).backgroundColor');
    const dark = await background();
    await page.click('#theme'); // dark
    expect(await background()).toBe(dark);
    await page.click('#theme'); // light
    expect(await background()).not.toBe(dark);
    await page.click('#theme'); // as the system says
    expect(await background()).toBe(dark);
    const unnamed =
      await page.value(`[...document.querySelectorAll('button, a, input, textarea, [role=img], summary')]
      .filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label') || document.querySelector('label[for="' + e.id + '"]')))
      .map((e) => e.outerHTML)`);
    expect(unnamed).toEqual([]);
  });

  it('previews a configuration change, and applies only what was shown', async () => {
    await page.goto(`${running.admin}/#configuration`);
    await page.until(`document.querySelectorAll('.options tbody tr').length > 50`);
    expect(await page.text('.options')).not.toContain(TOKEN);
    const preview = async (yaml: string) => {
      await page.value(`${find('#changes')}.focus(), ${find('#changes')}.select()`);
      await page.type(yaml);
      await page.click('#configuration button[type=submit]');
    };
    const apply = `${find('#configuration .primary')}`;
    await preview('scheduler: {weights: {high: 4}}\nqueue: {max_items: 77}\n');
    await page.until(`document.querySelectorAll('.difference li').length === 2`);
    expect(await page.text('.difference')).toMatch(
      /queue\.max_items\s+needs a restart[\s\S]*high\s+applies live/,
    );
    expect(await page.value(`${apply}.disabled`)).toBe(true);
    await shoot('configuration', '1280-light');
    await preview('scheduler: {weights: {hgh: 4}}');
    await page.until(`/did you mean high/.test(${text('.outcome')})`);
    await preview('scheduler: {weights: {high: 4}}');
    await page.until(`!${apply}.disabled`);
    await page.click('#configuration .primary');
    await page.until(`/^Applied 1 change/.test(${text('.outcome')})`);
    await page.until(`${text('#share h2 span')} === '5 : 4 : 1'`);
    page.errors.splice(0, Number.POSITIVE_INFINITY, ...page.errors.filter((error) => !error.includes('400')));
  });

  it('opens the queues read-only', async () => {
    const redis = new Redis(join(dir.path, 'data/redis/redis.sock'));
    const keys = async () =>
      (await redis.keys('*')).filter((key) => !/:payload:|:lock$|stalled-check$/.test(key)).sort();
    const before = await keys();
    expect((await fetch(`${running.admin}/queues/`)).status).toBe(401);
    await page.click('#queues');
    await page.until(
      `/replay-critical/.test(document.body.innerText) && /export/.test(document.body.innerText)`,
    );
    await page.screenshot(join(ARTIFACTS, 'queues-1280.png'));
    await page.goto(`${running.admin}/queues/queue/export`);
    await page.until(`/active/i.test(document.body.innerText)`);
    const change = await page.value(
      `fetch('/queues/api/queues/export/pause', { method: 'PUT' }).then((response) => response.status)`,
    );
    expect(change).toBe(404);
    // bull-board refuses pages of more than 300 jobs.
    const listed = (jobs: number) =>
      page.value(
        `fetch('/queues/api/queues?activeQueue=export&jobsPerPage=${jobs}').then((response) => response.status)`,
      );
    expect([await listed(300), await listed(301)]).toEqual([200, 400]);
    // Decoded once: the second time this would be malformed.
    expect(
      await page.value(`fetch('/queues/api/queues/export/%25').then((response) => response.status)`),
    ).toBe(404);
    // The cookie opens the queues, and nothing else.
    expect(await page.value(`fetch('/api/status').then((response) => response.status)`)).toBe(401);
    expect(await page.value('document.cookie')).toBe('');
    expect((await keys()).filter((key) => !before.includes(key))).toEqual([]);
    redis.disconnect();
    page.errors.splice(0, Number.POSITIVE_INFINITY, ...page.errors.filter((error) => !/40[014]/.test(error)));
  });

  it('caused no browser errors, and made no requests to other hosts', () => {
    expect(page.errors).toEqual([]);
    expect(page.requests.filter((url) => !url.startsWith(running.admin))).toEqual([]);
  });
});
