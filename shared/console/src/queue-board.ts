import { readFile } from 'node:fs/promises';
import { extname, join, normalize, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import type { Store } from '@nrdot/queue';
import { openQueues } from '@nrdot/queue/open-queues';
import type { PageAnswer, PageRequest } from '@nrdot/service';

type ServerAdapter = Parameters<typeof createBullBoard>[0]['serverAdapter'];
type Board = {
  queues: Parameters<ServerAdapter['setQueues']>[0];
  routes: Parameters<ServerAdapter['setApiRoutes']>[0];
  entry: Parameters<ServerAdapter['setEntryRoute']>[0];
  error: Parameters<ServerAdapter['setErrorHandler']>[0];
  config: Parameters<ServerAdapter['setUIConfig']>[0];
};

const TYPES: Record<string, string> = {
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
};
/** Files of the package; the build copies them beside the bundle. */
const FILES = import.meta.url.endsWith('.ts')
  ? fileURLToPath(new URL('./dist/', import.meta.resolve('@bull-board/ui/package.json')))
  : fileURLToPath(new URL('./bull-board/', import.meta.url));

/**
 * bull-board, read-only: routes that change something are not served. Jobs are small JSON that refers to the payload, so no
 * payload is shown. This module takes memory, so load it on first use.
 * @param basePath its path, such as `/queues/`
 */
export function openQueueBoard(
  store: Store,
  basePath: string,
): (request: PageRequest) => Promise<PageAnswer> {
  const board = {} as Board;
  const adapter: ServerAdapter = {
    setQueues: (queues) => keep({ queues }),
    setApiRoutes: (routes) =>
      keep({ routes: routes.filter(({ method }) => [method].flat().includes('get')) }),
    setEntryRoute: (entry) => keep({ entry }),
    setErrorHandler: (error) => keep({ error }),
    setUIConfig: (config) => keep({ config }),
    setViewsPath: () => adapter,
    setStaticPath: () => adapter,
  };
  const keep = (part: Partial<Board>) => {
    Object.assign(board, part);
    return adapter;
  };
  createBullBoard({
    queues: openQueues(store.redis, store.keys.prefix).map(
      (queue) => new BullMQAdapter(queue, { readOnlyMode: true, allowRetries: false }),
    ),
    serverAdapter: adapter,
    options: { uiBasePath: FILES, uiConfig: { boardTitle: 'NRDOT+ queues', showWorkers: false } },
  });
  return async ({ path, query }) => {
    if (path.startsWith('static/')) return staticFile(path);
    if (path.startsWith('api/')) return apiRoute(board, `/${path}`, query);
    return entryPage(board, basePath);
  };
}

async function staticFile(path: string): Promise<PageAnswer> {
  const file = normalize(join(FILES, path));
  const contentType = TYPES[extname(file)];
  if (!contentType || !file.startsWith(join(FILES, 'static') + sep)) return missing(path);
  const body = await readFile(file).catch(() => undefined);
  return body ? { status: 200, contentType, body } : missing(path);
}

async function apiRoute(board: Board, path: string, query: Record<string, string>): Promise<PageAnswer> {
  for (const { route, handler } of board.routes) {
    for (const pattern of [route].flat()) {
      const params = paramsOf(pattern, path);
      if (!params) continue;
      const request = { queues: board.queues, uiConfig: board.config, query, params, body: {}, headers: {} };
      const { status = 200, body } = await Promise.resolve(handler(request)).catch((error: Error) =>
        board.error(error),
      );
      return { status, contentType: 'application/json; charset=utf-8', body: JSON.stringify(body) };
    }
  }
  return missing(path);
}

/** Matches `/api/queues/:name` against `/api/queues/high`, a decoded path; undefined if it does not match. */
function paramsOf(pattern: string, path: string): Record<string, string> | undefined {
  const wanted = pattern.split('/');
  const given = path.split('/');
  if (wanted.length !== given.length) return undefined;
  const params: Record<string, string> = {};
  for (const [i, part] of wanted.entries()) {
    const value = given[i] ?? '';
    if (part.startsWith(':')) params[part.slice(1)] = value;
    else if (part !== value) return undefined;
  }
  return params;
}

/** Its page, without fonts from other hosts. */
async function entryPage(board: Board, basePath: string): Promise<PageAnswer> {
  const { name, params } = board.entry.handler({ basePath, uiConfig: board.config });
  const template = await readFile(join(FILES, name), 'utf8');
  const body = template
    .replace(/<link href="https?:[^>]*>/g, '')
    .replace(/<%= (\w+) %>/g, (_all, key: string) => escaped(params[key] ?? ''))
    .replace(/<%- (\w+) %>/g, (_all, key: string) => params[key] ?? '');
  return { status: 200, contentType: 'text/html; charset=utf-8', body };
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

function missing(path: string): PageAnswer {
  const error = { code: 'not_found', message: `there is nothing at ${path}` };
  return { status: 404, contentType: 'application/json; charset=utf-8', body: JSON.stringify({ error }) };
}
