import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import type { Store } from '@nrdot/queue';
import type { AdminServer, PageAnswer, PageRequest } from '@nrdot/service';

/** Files of the page in `shared/console/page`. The build copies them beside the bundle unchanged. */
const FILES = [
  'palette.css',
  'page.css',
  'path.css',
  'cards.css',
  'disk.css',
  'tables.css',
  'plots.css',
  'configuration.css',
  'narrow.css',
  'icon.svg',
  'main.js',
  'connection.js',
  'element.js',
  'format.js',
  'headline.js',
  'path.js',
  'cards.js',
  'disk.js',
  'events.js',
  'plots.js',
  'configuration.js',
] as const;
const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};
const QUEUES = '/queues/';
const DIRECTORY = new URL(import.meta.url.endsWith('.ts') ? '../page/' : './console/', import.meta.url);

/**
 * Serves the console on the admin address: one page at `/`, which reads `/api/status` once a second while visible, and
 * bull-board at `/queues/`, which is loaded on first use.
 */
export function addConsole(admin: AdminServer, store: Store): void {
  const add = (url: string, name: string) =>
    admin.file(url, TYPES[extname(name)]!, () => readFile(new URL(name, DIRECTORY)));
  add('/', 'index.html');
  add('/console', 'index.html');
  for (const name of FILES) add(`/console/${name}`, name);
  let board: Promise<(request: PageRequest) => Promise<PageAnswer>> | undefined;
  admin.foreignPage(QUEUES, async (request) => {
    board ??= import('./queue-board.ts').then(({ openQueueBoard }) => openQueueBoard(store, QUEUES));
    return (await board)(request);
  });
}
