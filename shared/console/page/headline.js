import { h, list, parts, say, set } from './element.js';
import { duration } from './format.js';

/** @typedef {import('./connection.js').PipelineStatus} PipelineStatus */

const MARKS = { ok: '✓', note: 'i', warning: '!', fault: '×' };
const NAMES = { ok: 'All is well', note: 'Note', warning: 'Warning', fault: 'Fault' };

/** The most important finding, in a sentence; below it the others. @param {Element} root */
export function headline(root) {
  const findings = h('ol', { class: 'findings' });
  // Ages count up every second; what is read aloud changes only when the findings do.
  const aloud = h('p', { class: 'away', role: 'status' });
  let codes = '';
  root.append(findings, aloud);
  const row = () => {
    const [rest, todo] = ['more', 'todo'].map((name) => h('span', { class: name }));
    const sentence = h('p', {}, h('span', { class: 'away' }), h('strong'), ' ', rest, todo);
    return h('li', {}, h('span', { class: 'mark', 'aria-hidden': 'true' }), sentence);
  };
  return {
    /** @param {PipelineStatus} status */
    update({ findings: found }) {
      set(root, 'data-level', found[0]?.level ?? 'ok');
      const now = found.map(({ code }) => code).join();
      if (now !== codes) say(aloud, found[0]?.text ?? '');
      codes = now;
      list(findings, found, row, (item, { level, code, text, more, todo }) => {
        set(item, 'data-level', level);
        set(item, 'data-code', code);
        const [mark, sentence] = parts(item);
        say(mark, MARKS[level]);
        const [name, strong, rest, what] = parts(sentence);
        say(name, `${NAMES[level]}: `);
        say(strong, text);
        say(rest, more ?? '');
        say(what, todo ? ` ${todo}` : '');
      });
    },
  };
}

/** Whether the page is up to date. @param {Element} root */
export function pulse(root) {
  return {
    /** @param {number | undefined} sinceMs how long nothing has answered; undefined if it does */
    update(sinceMs) {
      set(root, 'data-level', sinceMs === undefined ? 'ok' : 'fault');
      set(document.body, 'data-stale', sinceMs === undefined ? undefined : 'true');
      say(
        root,
        sinceMs === undefined ? 'live' : `no answer for ${duration(sinceMs)}; showing the last known state`,
      );
    },
  };
}
