import { dashboardJson } from './board.ts';
import { dlq } from './dlq.ts';
import { limiter } from './limiter.ts';
import { overview } from './overview.ts';
import { priority } from './priority.ts';
import { runtime } from './runtime.ts';

/** Every dashboard: its file in `infra/grafana/dashboards` and what is in it. */
export const DASHBOARDS: readonly (readonly [file: string, json: string])[] = [
  overview,
  limiter,
  priority,
  dlq,
  runtime,
].map((board) => [`${board.uid.replace('nrdot-', '')}.json`, dashboardJson(board)]);
