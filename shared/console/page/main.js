import { books, breaker, check, fill, limiter, services, share } from './cards.js';
import { configuration } from './configuration.js';
import { get, post, Refusal, token } from './connection.js';
import { disk } from './disk.js';
import { say, set } from './element.js';
import { events } from './events.js';
import { headline, pulse } from './headline.js';
import { path } from './path.js';
import { plots } from './plots.js';

/** @typedef {import('./connection.js').PipelineStatus} PipelineStatus */
/** @typedef {import('./connection.js').HistoryColumns} HistoryColumns */
/** @typedef {import('@nrdot/status').Events} Events */

const EVERY_MS = 1_000;
const HISTORY_EVERY_MS = 5_000;
const EVENTS_SHOWN = 50;
const TICK_MS = 200;
const THEME = 'nrdot.theme';

/** @param {string} id */
const at = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

const beat = pulse(at('pulse'));
const probe = breaker(at('breaker'));
const views = [
  headline(at('headline')),
  path(at('path')),
  books(at('books')),
  probe,
  fill(at('fill')),
  disk(at('disk')),
  share(at('share')),
  limiter(at('limiter')),
  check(at('check')),
  services(at('services')),
];
const past = plots(at('plots'));
const changes = events(at('event-list'));
const options = configuration(at('configuration'));

/** The server's clock, as of its last answer. @type {{ at: number, seen: number } | undefined} */
let clock;
let answeredAt = performance.now();
let historyAt = Number.NEGATIVE_INFINITY;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let next;

async function refresh() {
  clearTimeout(next);
  // A hidden page sends no requests.
  if (document.hidden) return;
  try {
    const status = /** @type {PipelineStatus} */ (await get('api/status'));
    answeredAt = performance.now();
    clock = { at: status.at, seen: answeredAt };
    reveal();
    for (const view of views) view.update(status);
    say(at('version'), status.services[0]?.version ?? '');
    document.title = `${{ ok: '', note: '', warning: '! ', fault: '× ' }[status.findings[0]?.level ?? 'ok']}NRDOT+ console`;
    if (answeredAt - historyAt >= HISTORY_EVERY_MS) {
      const history = /** @type {HistoryColumns} */ (await get('api/status/history'));
      historyAt = answeredAt;
      past.update(history, status.at);
      changes.update(/** @type {Events} */ (await get(`api/events?limit=${EVENTS_SHOWN}`)));
    }
    beat.update(undefined);
  } catch (error) {
    if (error instanceof Refusal && error.status === 401) return ask();
    beat.update(performance.now() - answeredAt);
    if (error instanceof Refusal) say(at('pulse'), error.message);
  }
  next = setTimeout(refresh, EVERY_MS);
}

function reveal() {
  at('main').hidden = false;
  at('token').hidden = true;
  at('forget').hidden = token.value === '';
}

function ask() {
  say(at('token-problem'), token.value ? 'Wrong token.' : '');
  token.forget();
  at('main').hidden = true;
  at('forget').hidden = true;
  at('token').hidden = false;
  say(at('pulse'), 'locked');
  set(at('pulse'), 'data-level', 'warning');
  at('token-value').focus();
}

at('token').addEventListener('submit', (event) => {
  event.preventDefault();
  const input = /** @type {HTMLInputElement} */ (at('token-value'));
  token.keep(input.value);
  input.value = '';
  void refresh();
});
at('forget').addEventListener('click', () => {
  token.forget();
  void refresh();
});
at('queues').addEventListener('click', async () => {
  try {
    await post('queues/session');
    location.assign('queues/');
  } catch (error) {
    say(at('pulse'), /** @type {Error} */ (error).message);
  }
});
document.addEventListener('visibilitychange', () => void refresh());
setInterval(() => {
  if (clock) probe.tick(clock.at + performance.now() - clock.seen);
}, TICK_MS);
const openOptions = () => location.hash === '#configuration' && options.open();
addEventListener('hashchange', openOptions);

/** Follows the system until a theme is chosen. */
const THEMES = { auto: '◐ Auto', dark: '● Dark', light: '○ Light' };
/** @param {string} name */
function paint(name) {
  set(document.documentElement, 'data-theme', name === 'auto' ? undefined : name);
  set(at('theme'), 'aria-label', `Theme: ${name}`);
  say(at('theme'), /** @type {Record<string, string>} */ (THEMES)[name] ?? THEMES.auto);
}
let theme = localStorage.getItem(THEME) ?? 'auto';
paint(theme);
at('theme').addEventListener('click', () => {
  const names = Object.keys(THEMES);
  theme = names[(names.indexOf(theme) + 1) % names.length] ?? 'auto';
  localStorage.setItem(THEME, theme);
  paint(theme);
});

openOptions();
void refresh();
