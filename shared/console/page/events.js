import { h, list, say, set } from './element.js';

/** @typedef {import('@nrdot/status').Events} Events */

const LEVELS = /** @type {const} */ ({ info: 'ok', warn: 'warning', error: 'fault' });
const NAMES = { info: '', warn: 'warning', error: 'fault' };

/**
 * Changes, newest first: outages and their ends, also from before the scheduler was started.
 * @param {Element} root
 */
export function events(root) {
  const body = h('tbody');
  const remark = h('p', { class: 'empty' });
  root.append(
    h(
      'table',
      { class: 'events' },
      h('caption', { class: 'away' }, 'What has changed'),
      h(
        'thead',
        {},
        h('tr', {}, ...['When', 'Level', 'Service', 'What'].map((name) => h('th', { scope: 'col' }, name))),
      ),
      body,
    ),
    remark,
  );
  return {
    /** @param {Events} answer */
    update({ events: all, problem }) {
      list(
        body,
        all.toReversed(),
        () => h('tr', {}, h('td', {}, h('time')), h('td'), h('td'), h('td')),
        (tr, { at, level, service, message }) => {
          const [when, name, who, what] = /** @type {Element[]} */ ([...tr.children]);
          const time = /** @type {Element} */ (when?.firstElementChild);
          const iso = new Date(at).toISOString();
          set(time, 'datetime', iso);
          say(time, iso.slice(0, 19).replace('T', ' '));
          set(tr, 'data-level', LEVELS[level]);
          say(/** @type {Element} */ (name), NAMES[level]);
          say(/** @type {Element} */ (who), service);
          say(/** @type {Element} */ (what), message);
        },
      );
      say(
        remark,
        problem
          ? `Only events of the scheduler's process: ${problem}.`
          : all.length === 0
            ? 'Nothing has changed since the pipeline was first started.'
            : 'Times are UTC. nrdot events --limit 1000 has more.',
      );
    },
  };
}
