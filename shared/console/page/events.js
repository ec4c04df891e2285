import { h, list, parts, say, set, table } from './element.js';

/** @typedef {import('@nrdot/status').Events} Events */

const LEVELS = /** @type {const} */ ({ info: 'ok', warn: 'warning', error: 'fault' });
const NAMES = { info: '', warn: 'warning', error: 'fault' };

/**
 * Changes, newest first: outages and their ends, also from before the scheduler was started.
 * @param {Element} root
 */
export function events(root) {
  const { element, body } = table('events', 'What has changed', ['When', 'Level', 'Service', 'What']);
  const remark = h('p', { class: 'empty' });
  root.append(element, remark);
  const row = () => h('tr', {}, h('td', {}, h('time')), h('td'), h('td'), h('td'));
  return {
    /** @param {Events} answer */
    update({ events: all, problem }) {
      list(body, all.toReversed(), row, (tr, { at, level, service, message }) => {
        const [when, name, who, what] = parts(tr);
        const [time] = parts(when);
        const iso = new Date(at).toISOString();
        set(time, 'datetime', iso);
        say(time, iso.slice(0, 19).replace('T', ' '));
        set(tr, 'data-level', LEVELS[level]);
        say(name, NAMES[level]);
        say(who, service);
        say(what, message);
      });
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
