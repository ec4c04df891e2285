import { get, post, Refusal } from './connection.js';
import { h, list, parts, say, set, table } from './element.js';
import { plural } from './format.js';

/** @typedef {{ path: string, value: string, source: string, live: boolean }} Setting */
/** @typedef {{ path: string, from: string, to: string, live: boolean }} Change */

/** An option's name, and a badge. */
const named = () => [h('code'), ' ', h('span', { class: 'badge' })];

/**
 * The effective configuration, and a form to change it: the change is shown as a difference before it is applied.
 * @param {Element} root
 */
export function configuration(root) {
  /** @type {Setting[]} */
  let settings = [];
  const free = { spellcheck: 'false' };
  const filter = h('input', { type: 'search', id: 'option-filter', placeholder: 'such as weights', ...free });
  const changed = h('input', { type: 'checkbox', id: 'option-set' });
  const { element, body } = table('options', undefined, ['Option', 'Value', 'Source']);
  const matches = h('p', { class: 'small', role: 'status' });
  const text = h('textarea', {
    id: 'changes',
    rows: '5',
    spellcheck: 'false',
    'aria-describedby': 'changes-hint',
    placeholder: 'scheduler:\n  weights:\n    high: 4',
  });
  const previewButton = h('button', { type: 'submit' }, 'Preview');
  const applyButton = h('button', { type: 'button', class: 'primary', disabled: true }, 'Apply');
  const outcome = h('div', { class: 'outcome', role: 'status' });
  const difference = h('ul', { class: 'difference' });
  const form = h(
    'form',
    {},
    h('label', { for: 'changes' }, 'Changes, as YAML in the structure of the configuration file'),
    text,
    h(
      'p',
      { id: 'changes-hint', class: 'small' },
      'They hold until the next reload or restart; write them to the file to keep them.',
    ),
    h('p', { class: 'row' }, previewButton, applyButton),
    outcome,
    difference,
  );
  const choice = h(
    'p',
    { class: 'row' },
    ...[h('label', { for: 'option-filter' }, 'Filter'), filter],
    ...[changed, h('label', { for: 'option-set' }, 'only options that were set')],
  );
  const scroll = { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Options' };
  const options = h('div', {}, choice, h('div', scroll, element), matches);
  const place = h('span', { class: 'small' }, 'in force in this process');
  const summary = h('summary', {}, h('h2', {}, 'Configuration'), place);
  const details = h('details', {}, summary, h('div', { class: 'columns' }, options, form));
  root.append(details);

  const row = () => h('tr', {}, h('td', {}, ...named()), h('td', {}, h('code')), h('td'));
  const show = () => {
    const wanted = filter.value.trim().toLowerCase();
    const shown = settings.filter(
      ({ path, value, source }) =>
        (!changed.checked || source !== 'default') &&
        (path.includes(wanted) || value.toLowerCase().includes(wanted)),
    );
    list(body, shown, row, (tr, { path, value, source, live }) => {
      const [option, held, from] = parts(tr);
      const [name, badge] = parts(option);
      say(name, path);
      say(badge, live ? 'live' : '');
      say(parts(held)[0], value);
      say(from, source);
      set(tr, 'data-set', source === 'default' ? undefined : 'true');
    });
    say(matches, `${plural(shown.length, 'option')} of ${settings.length}`);
  };
  const load = async () => {
    try {
      ({ options: settings } = /** @type {{ options: Setting[] }} */ (await get('api/config')));
      show();
    } catch (error) {
      say(matches, /** @type {Error} */ (error).message);
    }
  };
  /** @param {'ok' | 'warning' | 'fault'} level @param {string} words */
  const tell = (level, words) => {
    set(outcome, 'data-level', level);
    say(outcome, words);
  };
  const change = () => h('li', {}, h('p', {}, ...named()), h('del'), h('ins'));
  /** @param {readonly Change[]} changes */
  const showDifference = (changes) =>
    list(difference, changes, change, (item, { path, from, to, live }) => {
      const [head, before, after] = parts(item);
      const [name, badge] = parts(head);
      say(name, path);
      say(badge, live ? 'applies live' : 'needs a restart');
      set(badge, 'data-level', live ? 'ok' : 'warning');
      say(before, from);
      say(after, to);
    });
  /** @param {unknown} error */
  const refuse = (error) => {
    applyButton.disabled = true;
    const body =
      error instanceof Refusal ? /** @type {{ error?: { changes?: Change[] } }} */ (error.body) : {};
    showDifference(body.error?.changes ?? []);
    tell('fault', /** @type {Error} */ (error).message);
  };
  const preview = async () => {
    try {
      const { changes, applies } = /** @type {{ changes: Change[], applies: boolean }} */ (
        await post('api/config/preview', text.value)
      );
      showDifference(changes);
      applyButton.disabled = !applies || changes.length === 0;
      if (changes.length === 0) tell('ok', 'No change: these values are already in force.');
      else if (applies) tell('ok', `${plural(changes.length, 'change')}, all of them live.`);
      else tell('warning', 'Not all of these can change without a restart, so none would be applied.');
    } catch (error) {
      refuse(error);
    }
  };
  const apply = async () => {
    applyButton.disabled = true;
    try {
      const { changes } = /** @type {{ changes: Change[] }} */ (await post('api/config/apply', text.value));
      showDifference(changes);
      tell('ok', `Applied ${plural(changes.length, 'change')}. They hold until the next reload or restart.`);
      await load();
    } catch (error) {
      refuse(error);
    }
  };
  details.addEventListener('toggle', () => details.open && void load());
  filter.addEventListener('input', show);
  changed.addEventListener('change', show);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void preview();
  });
  applyButton.addEventListener('click', () => void apply());
  // Only what was shown may be applied.
  text.addEventListener('input', () => {
    applyButton.disabled = true;
  });
  return {
    open() {
      details.open = true;
      summary.focus();
    },
  };
}
