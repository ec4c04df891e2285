import { CLASSES } from './connection.js';
import { h, meter, say, set } from './element.js';
import { count, duration, plural, rate, short } from './format.js';

/** @typedef {import('./connection.js').PipelineStatus} PipelineStatus */

/**
 * Where data is and where it goes: boxes, and arrows between them that move with the rate.
 * @param {Element} root
 */
export function path(root) {
  const client = box('client', 'Clients');
  const receiver = box('receiver', 'Receiver');
  const queues = lanes();
  const scheduler = box('scheduler', 'Scheduler');
  const exporting = box('export', 'Export');
  const exporter = box('exporter', 'Exporter');
  const upstream = box('upstream', 'Upstream');
  const disk = box('dlq', 'Disk (dlq)');
  const edges = {
    in: edge('in', 'from clients'),
    accepted: edge('accepted', 'into the class queues'),
    picked: edge('picked', 'to the scheduler'),
    moved: edge('moved', 'to the export queue'),
    sent: edge('sent', 'to the exporter'),
    delivered: edge('delivered', 'delivered'),
    stored: edge('stored', 'to disk', 'to disk'),
    replayed: edge('replayed', 'back from disk', 'back'),
  };
  root.append(client, edges.in, receiver, edges.accepted, queues, edges.picked, scheduler, edges.moved);
  root.append(exporting, edges.sent, exporter, edges.delivered, upstream, edges.stored, edges.replayed, disk);
  return {
    /** @param {PipelineStatus} status */
    update(status) {
      const { rates, queue, books, breaker, breakers = [], dlq, exporter: sender, services, redis } = status;
      // While Redis is away, what only it knows is unknown, whatever the last value was.
      const booked = (/** @type {number} */ perSecond) => (books ? perSecond : undefined);
      const moved = booked(CLASSES.reduce((sum, c) => sum + rates.moved[c], 0));
      const number = (/** @type {string} */ service) =>
        services.filter((line) => line.service === service).length;
      const refused = rates.refusedRequests > 0 ? `refused ${rate(rates.refusedRequests)}` : '';
      client.update(rate(rates.requests), 'requests', refused);
      receiver.update(...instances(number('receiver'), 'items in', rate(rates.received)));
      queues.update(status);
      scheduler.update(
        CLASSES.map((c) => queue?.classes[c].weight ?? '–').join(' : '),
        number('scheduler') > 1 ? `${number('scheduler')} running` : 'weights',
        dlq && dlq.replay.outstanding > 0 ? `slot: ${queue?.slot ?? '–'}` : '',
      );
      const held = queue && CLASSES.reduce((sum, c) => sum + queue.classes[c].exporting.items, 0);
      exporting.update(short(held), 'items', '');
      exporter.update(
        sender ? `${sender.inflight} of ${sender.concurrency}` : '–',
        number('exporter') > 1 ? `in flight, ${number('exporter')} running` : 'in flight',
        number('exporter') === 0 ? 'none running' : '',
      );
      const { state } = breaker ?? {};
      const refuses = status.findings.some(({ code }) => code === 'all_rejected');
      const paused = breakers.filter((each) => each.state !== 'closed').map(({ signal }) => signal);
      upstream.update(
        upstreamWords(state, breaker?.reason, refuses),
        sender?.upstream ?? '',
        paused.length > 0 ? `paused: ${paused.join(', ')}` : '',
      );
      const level = { closed: refuses ? 'fault' : undefined, open: 'fault', half_open: 'warning' };
      set(upstream, 'data-level', state && level[state]);
      set(receiver, 'data-level', number('receiver') === 0 && !redis.problem ? 'fault' : undefined);
      set(exporter, 'data-level', number('exporter') === 0 && !redis.problem ? 'fault' : undefined);
      const onDisk = dlq && CLASSES.reduce((sum, c) => sum + dlq.areas[c].items, 0);
      disk.update(
        onDisk === undefined ? 'unknown' : plural(onDisk, 'item'),
        dlq && onDisk
          ? CLASSES.map((c) => `${c} ${short(dlq.areas[c].items)}`).join(' · ')
          : dlq
            ? 'nothing waits on disk'
            : '',
        dlq && onDisk && dlq.replay.paused
          ? 'replay is paused'
          : rates.dropped > 0
            ? `dropped ${rate(rates.dropped)}`
            : '',
      );
      set(disk, 'data-level', dlq && dlq.state !== 'ok' ? 'fault' : onDisk ? 'warning' : undefined);
      edges.in.update(rates.received);
      edges.accepted.update(booked(rates.accepted));
      edges.picked.update(moved);
      edges.moved.update(moved);
      edges.sent.update(booked(rates.delivered), state === 'open');
      edges.delivered.update(booked(rates.delivered), state === 'open');
      edges.stored.update(booked(rates.stored));
      edges.replayed.update(rates.replayed);
    },
  };
}

/**
 * @param {'closed' | 'open' | 'half_open' | undefined} state undefined: not known
 * @param {string} [reason]
 * @param {boolean} [refuses] it answers, and rejects everything
 */
function upstreamWords(state, reason, refuses = false) {
  if (state === undefined) return 'unknown';
  if (state === 'closed') return refuses ? 'rejects all' : 'answers';
  if (state === 'half_open') return 'being probed';
  return { quota: 'throttles', auth: 'refuses the key', place: 'wrong address' }[reason ?? ''] ?? 'fails';
}

/** @param {number} running @param {string} what @param {string} value @returns {[string, string, string]} */
function instances(running, what, value) {
  return [value, running > 1 ? `${what}, ${running} running` : what, running === 0 ? 'none running' : ''];
}

/** @param {string} name @param {string} title */
function box(name, title) {
  const value = h('strong');
  const what = h('span', { class: 'what' });
  const remark = h('em');
  const element = h('div', { class: 'box', 'data-box': name }, h('h3', {}, title), value, what, remark);
  /** @param {string} said @param {string} of @param {string} beside */
  const update = (said, of, beside) => {
    say(value, said);
    say(what, of);
    set(what, 'title', of);
    say(remark, beside);
  };
  return Object.assign(element, { update });
}

function lanes() {
  const rows = CLASSES.map((c) => {
    const items = h('strong');
    const age = h('span', { class: 'age' });
    const bar = meter(c);
    const element = h('li', { class: c }, h('span', { class: 'name' }, c), bar.element, items, age);
    return { c, element, items, age, bar };
  });
  const head = h('h3', {}, 'Class queues', h('span', {}, 'items · oldest'));
  const lines = h('ul', {}, ...rows.map(({ element }) => element));
  return Object.assign(h('div', { class: 'box lanes', 'data-box': 'queues' }, head, lines), {
    /** @param {PipelineStatus} status */
    update({ queue }) {
      const waiting = (/** @type {'critical' | 'high' | 'normal'} */ c) =>
        queue ? queue.classes[c].waiting.items + queue.classes[c].replay.items : 0;
      const most = Math.max(1, ...CLASSES.map(waiting));
      for (const { c, element: row, items, age, bar } of rows) {
        bar.update(waiting(c) / most);
        say(items, queue ? short(waiting(c)) : '–');
        say(age, queue && queue.classes[c].oldestAgeMs > 0 ? duration(queue.classes[c].oldestAgeMs) : '–');
        set(row, 'title', `${c}: ${count(waiting(c))} items wait`);
        set(row, 'data-spills', queue?.classes[c].spills ? 'true' : undefined);
      }
    },
  });
}

/** @param {string} name @param {string} meaning for screen readers @param {string} [caption] */
function edge(name, meaning, caption) {
  const value = h('strong');
  const flow = h('span', { class: 'flow', 'aria-hidden': 'true' });
  const words = h('span', { class: caption ? '' : 'away' }, ` ${caption ?? meaning}`);
  const label = h('span', { class: 'label' }, value, words);
  const element = h('div', { class: 'edge', 'data-edge': name }, label, flow);
  /** @param {number | undefined} perSecond undefined: not known @param {boolean} [broken] */
  const update = (perSecond, broken = false) => {
    say(value, rate(perSecond));
    const moving = perSecond !== undefined && perSecond >= 0.05;
    set(element, 'data-moving', moving ? 'true' : undefined);
    set(element, 'data-broken', broken ? 'true' : undefined);
    if (!moving) return;
    // In steps, so that the animation does not restart with each small change.
    const seconds = Math.max(0.3, 1.8 - 0.3 * Math.round(Math.log10(perSecond + 1)));
    flow.style.setProperty('--pace', `${seconds.toFixed(1)}s`);
  };
  return Object.assign(element, { update });
}
