import { CLASSES } from './connection.js';
import { h, list, meter, parts, say, set, table } from './element.js';
import { bytes, count, duration, percent, plural, rate, short } from './format.js';

/** @typedef {import('./connection.js').PipelineStatus} PipelineStatus */

/** The accounting, as a sum. @param {Element} root */
export function books(root) {
  /** @type {readonly [key: 'delivered' | 'queued' | 'on_disk' | 'rejected' | 'dropped', name: string, sign: string][]} */
  const sum = [
    ['delivered', 'delivered', '='],
    ['queued', 'queued in Redis', '+'],
    ['on_disk', 'on disk', '+'],
    ['rejected', 'rejected, kept on disk', '+'],
    ['dropped', 'dropped', '+'],
  ];
  const accepted = h('td');
  const cells = sum.map(([key, name, sign]) => {
    const value = h('td');
    const row = h('tr', { class: key }, h('th', { scope: 'row' }, h('i', {}, sign), name), value);
    return { key, value, row, share: h('span', { class: key }) };
  });
  const difference = h('td');
  const verdict = h('p', { class: 'verdict' });
  const shares = cells.map(({ share }) => share);
  const bar = h('div', { class: 'stack', 'aria-hidden': 'true' }, ...shares);
  const end = h('tr', { class: 'sum' }, h('th', { scope: 'row' }, h('i', {}, '≠'), 'difference'), difference);
  const name = h('th', { scope: 'row' }, h('i', {}, ''), 'accepted');
  const head = h('tr', { class: 'accepted' }, name, accepted);
  const rows = h('tbody', {}, head, ...cells.map(({ row }) => row), end);
  root.append(
    h('h2', {}, 'The books', h('span', {}, 'items')),
    bar,
    h('table', { class: 'books' }, rows),
    verdict,
  );
  return {
    /** @param {PipelineStatus} status */
    update({ books: kept, summary, differenceMs = 0 }) {
      const moving = differenceMs < 10_000;
      say(accepted, count(kept?.accepted));
      for (const { key, value, row, share } of cells) {
        say(value, count(kept?.[key]));
        set(row, 'data-none', kept && kept[key] === 0 ? 'true' : undefined);
        share.style.flexGrow = String(kept?.[key] ?? 0);
        share.hidden = !kept?.[key];
      }
      say(difference, count(kept?.difference));
      set(end, 'data-level', kept?.difference === 0 ? 'ok' : moving ? 'note' : 'warning');
      say(verdict, summary.lost);
    },
  };
}

/** Whether batches are sent, why not, and when the upstream is tried again. @param {Element} root */
export function breaker(root) {
  const state = h('strong', { class: 'state' });
  const why = h('p', { class: 'why' });
  const left = h('span', { class: 'countdown' });
  const bar = meter('probe');
  const probe = h('div', { class: 'probe-row' }, h('span', {}, 'next probe in'), left, bar.element);
  const facts = ['Last error', 'Opened', 'Throttled', 'Retries', 'Account limits'].map((name) => {
    const value = h('dd');
    return { value, row: h('div', {}, h('dt', {}, name), value) };
  });
  root.append(
    h('h2', {}, 'Breaker'),
    state,
    why,
    probe,
    h('dl', { class: 'facts' }, ...facts.map(({ row }) => row)),
  );
  const names = { closed: 'Closed', open: 'Open', half_open: 'Half-open' };
  const openedBy = /** @type {const} */ ([
    ['failures', 'by failures'],
    ['quota', 'by throttling'],
    ['auth', 'by a refused key'],
    ['place', 'by a wrong address'],
  ]);
  /** @type {PipelineStatus['breaker']} */
  let last;
  return {
    /** @param {PipelineStatus} status */
    update({ breaker: now, exporter, findings, at, account = [] }) {
      last = now;
      set(root, 'data-state', now?.state ?? 'unknown');
      say(state, now ? names[now.state] : 'Unknown');
      const since = now && now.sinceMs > 0 ? ` For ${duration(at - now.sinceMs)}.` : '';
      say(
        why,
        !now
          ? 'Its state is in Redis, which is unreachable.'
          : now.state === 'closed'
            ? `Batches are sent to the upstream.${since}`
            : findings
                .filter(({ code }) => code.startsWith('breaker_'))
                .map(({ text }) => text)
                .join(' ') || now.reason,
      );
      probe.hidden = now?.state !== 'open';
      const problem = exporter?.lastProblem;
      const opened = openedBy
        .filter(([reason]) => now && now.openedByReason[reason] > 0)
        .map(([reason, by]) => `${count(now?.openedByReason[reason])} ${by}`);
      const said = [
        problem ? `${problem.reason}, ${duration(at - problem.at)} ago: ${problem.message}` : 'none',
        now ? plural(now.openedTotal, 'time') + (opened.length > 0 ? `: ${opened.join(', ')}` : '') : '–',
        now ? `${percent(now.throttledShare)} of recent answers were 429` : '–',
        count(exporter?.retries),
        account
          .map(
            ({ of, perMinute, limitPerMinute: limit }) =>
              `${percent(perMinute / limit)} of ${of === 'bytes' ? bytes(limit) : `${short(limit)} ${of}`} a minute`,
          )
          .join(', '),
      ];
      for (const [i, { value }] of facts.entries()) say(value, said[i] ?? '');
      /** @type {HTMLElement} */ (facts.at(-1)?.row).hidden = account.length === 0;
    },
    /** Called between two answers of the server. @param {number} now Unix ms, of the server */
    tick(now) {
      if (last?.state !== 'open') return;
      const leftMs = Math.max(0, last.retryAtMs - now);
      say(left, leftMs === 0 ? 'now' : duration(leftMs));
      bar.update(leftMs / Math.max(1, last.retryAtMs - last.sinceMs));
    },
  };
}

/** Fill level of the queue, in total and by class. @param {Element} root */
export function fill(root) {
  const total = h('strong', { class: 'state' });
  const bar = meter('fill marked');
  const facts = h('p', { class: 'small' });
  const rows = CLASSES.map((c) => {
    const value = h('span', { class: 'number' });
    const share = meter(c);
    const age = h('span', { class: 'small' });
    const row = h('li', {}, h('span', { class: 'name' }, c), share.element, value, age);
    return { c, value, share, age, row };
  });
  root.append(
    h('h2', {}, 'Queue fill', h('span', {}, 'spills at 95 %')),
    total,
    bar.element,
    h('ul', { class: 'rows' }, ...rows.map(({ row }) => row)),
    facts,
  );
  return {
    /** @param {PipelineStatus} status */
    update({ queue, redis }) {
      say(total, fillText(queue?.fill));
      bar.update(queue?.fill ?? 0);
      const { fill: full = 0 } = queue ?? {};
      set(root, 'data-level', full >= 0.95 ? 'fault' : full >= 0.8 ? 'warning' : undefined);
      for (const { c, value, share, age } of rows) {
        const now = queue?.classes[c];
        share.update(now?.fill ?? 0);
        say(value, fillText(now?.fill));
        const items = now && now.waiting.items + now.replay.items + now.exporting.items + now.spilling.items;
        say(age, now?.spills ? 'spills' : `${short(items)} items`);
      }
      const used = redis.usedBytes === undefined ? '' : ` · Redis uses ${bytes(redis.usedBytes)}`;
      const limit = redis.limitBytes ? ` of ${bytes(redis.limitBytes)}` : '';
      say(
        facts,
        queue ? `${bytes(queue.bytes)} of ${bytes(queue.maxBytes)}${used}${limit}` : 'Redis is unreachable.',
      );
    },
  };
}

/** @param {number | undefined} share */
function fillText(share) {
  return percent(share, share !== undefined && share < 0.1 ? 1 : 0);
}

/** The weights and the actual shares. @param {Element} root */
export function share(root) {
  const ratio = h('span');
  const bars = /** @type {const} */ ([
    ['wanted', 'wantedShare'],
    ['achieved', 'achievedShare'],
  ]).map(([name, key]) => {
    const parts = CLASSES.map((c) => h('span', { class: c }));
    const bar = h('div', { class: 'stack labelled', role: 'img' }, ...parts);
    const row = h('div', { class: 'share-row' }, h('span', { class: 'name' }, name), bar);
    return { key, name, parts, bar, row };
  });
  const remark = h('p', { class: 'small' });
  const swatches = CLASSES.flatMap((c) => [h('span', { class: `swatch ${c}` }), `${c} `]);
  const legend = h('p', { class: 'key' }, ...swatches);
  root.append(h('h2', {}, 'Shares', ratio), ...bars.map(({ row }) => row), legend, remark);
  return {
    /** @param {PipelineStatus} status */
    update({ queue, rates }) {
      say(ratio, CLASSES.map((c) => queue?.classes[c].weight ?? '–').join(' : '));
      for (const { key, name, parts, bar } of bars) {
        const values = CLASSES.map((c) => queue?.classes[c][key] ?? 0);
        for (const [i, part] of parts.entries()) {
          const value = values[i] ?? 0;
          part.style.flexGrow = String(value);
          part.hidden = value === 0;
          say(part, value >= 0.2 ? percent(value) : value >= 0.07 ? Math.round(value * 100) : '');
        }
        set(bar, 'aria-label', `${name}: ${CLASSES.map((c, i) => `${c} ${percent(values[i])}`).join(', ')}`);
        set(bar, 'data-none', values.every((value) => value === 0) ? 'true' : undefined);
      }
      const waits = CLASSES.filter(
        (c) => queue && queue.classes[c].waiting.items + queue.classes[c].replay.items > 0,
      );
      const moved = CLASSES.reduce((sum, c) => sum + rates.moved[c], 0);
      say(
        remark,
        !queue
          ? 'Unknown while Redis is unreachable.'
          : moved === 0
            ? 'Nothing is moving.'
            : waits.length === CLASSES.length
              ? `All classes have work, so the weights apply. ${rate(moved)} in total.`
              : `Not all classes have work, so the weights do not apply. ${rate(moved)} in total.`,
      );
    },
  };
}

/** The limiter's budget and the labels that fill it. @param {Element} root */
export function limiter(root) {
  const used = h('strong', { class: 'state' });
  const bar = meter('keys');
  const facts = h('p', { class: 'small' });
  const labels = table('labels', 'Labels by score', ['Label', 'Metric', 'Score', '']);
  const none = h('p', { class: 'empty' });
  const of = h('span');
  const dayFacts = h('p', { class: 'small' });
  const names = ['Metric', 'Series today', 'Share of limit', 'Forecast'];
  const metrics = table('labels daily', 'Metrics by series of this UTC day', names);
  const day = h('div', { class: 'day' }, dayFacts, metrics.element);
  root.append(h('h2', {}, 'Cardinality limiter', of), used, bar.element, facts, labels.element, none, day);
  const row = () => {
    const bar = meter('score');
    const tr = h('tr', {}, h('td'), h('td'), h('td', {}, h('span'), bar.element), h('td'));
    return Object.assign(tr, { bar });
  };
  /** @param {ReturnType<typeof row>} tr @param {string} state @param {number} share @param {string[]} texts */
  const fillRow = (tr, state, share, texts) => {
    const [first, second, third, last] = parts(tr);
    set(tr, 'data-state', state);
    tr.bar.update(share);
    for (const [i, cell] of [first, second, parts(third)[0], last].entries()) say(cell, texts[i] ?? '');
    set(first, 'title', texts[0]);
    return second;
  };
  return {
    /** @param {PipelineStatus} status */
    update({ limiter: now, receiver }) {
      say(used, now ? count(now.keysUsed) : 'Unknown');
      say(of, now ? `of ${count(now.maxKeys)} key-sets` : '');
      bar.update(now ? now.keysUsed / now.maxKeys : 0);
      say(
        facts,
        now
          ? `${now.mode === 'observe' ? 'observes only · ' : ''}${short(now.points)} points in · ${short(now.droppedPoints)} dropped · ${short(now.aggregatedPoints)} merged · ${short(now.overflowPoints)} to overflow`
          : receiver
            ? 'limiter.mode is off.'
            : 'No receiver has reported.',
      );
      const top = now?.topLabels ?? [];
      labels.element.hidden = top.length === 0;
      none.hidden = top.length > 0 || !now;
      say(none, 'No metric is large enough to matter: labels are scored from 256 key-sets per metric.');
      list(labels.body, top, row, (tr, { label, metric, score, state }) => {
        const fate = { removed: 'stripped', protected: 'protected', kept: '' }[state];
        set(fillRow(tr, state, score, [label, metric, score.toFixed(2), fate]), 'title', metric);
      });
      const daily = now?.daily;
      day.hidden = !daily || daily.metrics.length === 0;
      if (!daily) return;
      say(
        dayFacts,
        `${count(daily.sum)} series since midnight UTC, at most ${count(daily.limit)} per metric${daily.mode === 'enforce' ? ', enforced' : ''}`,
      );
      list(metrics.body, daily.metrics, row, (tr, { metric, keys, forecast }) => {
        const share = keys / daily.limit;
        const texts = [metric, count(keys), percent(share), count(forecast)];
        fillRow(tr, share >= 0.8 ? 'removed' : 'kept', Math.min(1, share), texts);
      });
    },
  };
}

/** What New Relic would not keep as it is; hidden if traffic is not checked. @param {HTMLElement} root */
export function check(root) {
  const rules = table('labels', 'Rules by effect', ['Rule', 'Signal', 'Items', '']);
  const none = h('p', { class: 'empty' }, 'Everything would be kept unchanged.');
  const of = h('span');
  root.append(h('h2', {}, 'What New Relic would not keep', of), rules.element, none);
  const row = () => h('tr', {}, h('td'), h('td'), h('td'), h('td'));
  return {
    /** @param {PipelineStatus} status */
    update({ check: now }) {
      root.hidden = !now;
      if (!now) return;
      say(of, `${count(now.items)} items checked, ${percent(now.sample)} of the batches`);
      rules.element.hidden = now.broken.length === 0;
      none.hidden = now.broken.length > 0;
      list(rules.body, now.broken, row, (tr, { rule, signal, items, effect }) => {
        const texts = [rule, signal, count(items), effect];
        for (const [i, cell] of [...tr.children].entries()) say(cell, texts[i] ?? '');
      });
    },
  };
}

/** Processes that have reported recently. @param {Element} root */
export function services(root) {
  const names = ['Service', 'Where', 'Up', 'Memory'];
  const { element, body } = table('services', 'Services and their state', names);
  root.append(h('h2', {}, 'Services'), element);
  const row = () => h('tr', {}, h('th', { scope: 'row' }), h('td'), h('td'), h('td'));
  return {
    /** @param {PipelineStatus} status */
    update({ services: all }) {
      list(body, all, row, (tr, { service, instance, ageMs, upMs, rssBytes, problem, state }) => {
        const [name, where, up, memory] = parts(tr);
        const level = problem ? 'fault' : ageMs > 6_000 ? 'warning' : 'ok';
        set(tr, 'data-level', level);
        set(tr, 'title', problem ?? `reported ${duration(ageMs)} ago`);
        say(name, service);
        say(where, state === 'ready' ? instance : state);
        say(up, level === 'warning' ? `silent for ${duration(ageMs)}` : duration(upMs));
        say(memory, bytes(rssBytes));
      });
    },
  };
}
