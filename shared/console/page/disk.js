import { CLASSES } from './connection.js';
import { h, list, meter, parts, say, set } from './element.js';
import { bytes, count, duration, percent, short } from './format.js';

/** @typedef {import('./connection.js').PipelineStatus} PipelineStatus */
/** @typedef {NonNullable<PipelineStatus['dlq']>['segments'][number]} Segment */

const AREAS = /** @type {const} */ ([...CLASSES, 'rejected']);
/** Maximum number of blocks in a row that have room for their size. */
const LABELLED = 6;

/** What is on disk, as blocks, and the progress of replay. @param {Element} root */
export function disk(root) {
  const items = h('strong', { class: 'state' });
  const facts = h('p', { class: 'small' });
  const progress = meter('progress');
  const percentDone = h('span', { class: 'number' });
  const drain = h('p', { class: 'drain' });
  const coming = h('div', { class: 'coming' }, progress.element, percentDone, drain);
  const rows = AREAS.map((area) => {
    const held = h('span', { class: 'small' });
    const blocks = h('ol', { class: 'blocks' });
    const row = h('li', { class: area }, h('span', { class: 'name' }, area), blocks, held);
    return { area, held, blocks, row };
  });
  const left = h('p', { class: 'small' });
  const quarantine = h('p', { class: 'quarantine' });
  const room = meter('room');
  const roomText = h('span', { class: 'small' });
  const legend = h(
    'p',
    { class: 'key' },
    ...['open', 'sealed', 'replaying', 'quarantined'].flatMap((state) => [
      h('span', { class: 'swatch block', 'data-state': state === 'quarantined' ? 'damaged' : state }),
      `${state} `,
    ]),
    h('span', { class: 'swatch block done' }),
    'replayed',
  );
  root.append(
    h('h2', {}, 'On disk', h('span', {}, 'segments of the dlq')),
    h('div', { class: 'split' }, h('div', {}, items, facts), coming),
    h('ul', { class: 'areas' }, ...rows.map(({ row }) => row)),
    left,
    quarantine,
    h('div', { class: 'room-row' }, room.element, roomText),
    legend,
  );
  return {
    /** @param {PipelineStatus} status */
    update({ dlq, drain: drained, summary, at }) {
      const waiting = dlq && CLASSES.reduce((sum, c) => sum + dlq.areas[c].items, 0);
      say(items, waiting === undefined ? 'Unknown' : waiting === 0 ? 'Empty' : count(waiting));
      const since = dlq ? CLASSES.map((c) => dlq.areas[c].oldestReceivedAt).filter((time) => time > 0) : [];
      say(
        facts,
        !dlq
          ? 'No dlq has reported.'
          : waiting
            ? `items wait, the oldest for ${duration(at - Math.min(...since))}`
            : 'Nothing waits on disk.',
      );
      coming.hidden = !dlq || !waiting;
      const { fromItems = 0, leftItems = 0 } = drained ?? {};
      const done = fromItems === 0 ? 0 : 1 - leftItems / fromItems;
      progress.update(done);
      say(percentDone, `${percent(done)} replayed`);
      say(drain, summary.back);
      for (const { area, held, blocks, row } of rows) {
        const segments = dlq?.segments.filter((segment) => segment.area === area) ?? [];
        const holds = dlq?.areas[area];
        set(row, 'data-none', segments.length === 0 ? 'true' : undefined);
        set(blocks, 'data-dense', segments.length > LABELLED ? 'true' : undefined);
        say(
          held,
          holds && holds.segments > 0
            ? `${short(holds.items)} items · ${bytes(holds.diskBytes)}${
                area === 'rejected' && dlq?.rejectedCapacityBytes
                  ? ` of ${bytes(dlq.rejectedCapacityBytes)}`
                  : ''
              }`
            : '–',
        );
        list(blocks, segments, block, paint);
      }
      left.hidden = !dlq?.segmentsLeftOut;
      say(left, `and ${count(dlq?.segmentsLeftOut)} more segments`);
      quarantine.hidden = !dlq?.quarantinedBytes;
      say(
        quarantine,
        `Quarantined: ${bytes(dlq?.quarantinedBytes)} of unreadable data, kept for inspection.`,
      );
      room.update(dlq ? dlq.diskBytes / dlq.capacityBytes : 0);
      say(roomText, dlq ? `${bytes(dlq.diskBytes)} of ${bytes(dlq.capacityBytes)} (dlq.capacity)` : '–');
      set(root, 'data-level', dlq && dlq.state !== 'ok' ? 'fault' : undefined);
    },
  };
}

function block() {
  const rest = h('span', { class: 'rest' });
  const size = h('span', { class: 'size', 'aria-hidden': 'true' });
  return Object.assign(h('li', {}, rest, size, h('span', { class: 'away' })), { rest });
}

/** @param {ReturnType<typeof block>} element @param {Segment} segment */
function paint(element, { area, sequence, state, diskBytes, items, done }) {
  const [, size, words] = parts(element);
  set(element, 'data-state', state);
  element.rest.style.blockSize = `${Math.round((1 - done) * 100)}%`;
  const text = `${area} segment ${sequence}: ${state === 'unreadable' ? 'not readable at the moment' : state}, ${count(items)} items wait, ${bytes(diskBytes)}, ${percent(done)} replayed`;
  set(element, 'title', text);
  say(size, bytes(diskBytes));
  say(words, text);
}
