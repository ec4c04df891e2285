import { dlq } from './dlq.ts';
import { grafanaJson } from './grafana.ts';
import { limiter } from './limiter.ts';
import { newRelicJson } from './new-relic.ts';
import { overview } from './overview.ts';
import { priority } from './priority.ts';
import { runtime } from './runtime.ts';

export const BOARDS = [overview, limiter, priority, dlq, runtime] as const;

/** The Grafana dashboards: file in `infra/grafana/dashboards` and content. */
export const DASHBOARDS: readonly (readonly [file: string, json: string])[] = BOARDS.map((board) => [
  `${board.uid.replace('nrdot-', '')}.json`,
  grafanaJson(board),
]);

/** The same for New Relic: one dashboard with a page each, in `infra/newrelic/dashboards`. */
export const NEW_RELIC_DASHBOARD: readonly [file: string, json: string] = [
  'nrdot.json',
  newRelicJson(BOARDS),
];
