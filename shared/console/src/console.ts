import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import type { Store } from '@nrdot/queue';
import type { AdminServer, PageAnswer, PageRequest } from '@nrdot/service';

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};
const PAGE = 'index.html';
const QUEUES = '/queues/';
/** Of the page; the build copies its files beside the bundle unchanged. */
const DIRECTORY = new URL(import.meta.url.endsWith('.ts') ? '../page/' : './console/', import.meta.url);

/**
 * Serves the console on the admin address: one page at `/`, which reads `/api/status` once a second while visible, and
 * bull-board at `/queues/`, which is loaded on first use.
 */
export function addConsole(admin: AdminServer, store: Store): void {
  const add = (url: string, name: string) =>
    admin.file(url, TYPES[extname(name)]!, () => readFile(new URL(name, DIRECTORY)));
  add('/', PAGE);
  add('/console', PAGE);
  for (const name of readdirSync(DIRECTORY))
    if (extname(name) in TYPES && name !== PAGE) add(`/console/${name}`, name);
  let board: Promise<(request: PageRequest) => Promise<PageAnswer>> | undefined;
  admin.foreignPage(QUEUES, async (request) => {
    board ??= import('./queue-board.ts').then(({ openQueueBoard }) => openQueueBoard(store, QUEUES));
    return (await board)(request);
  });
}
