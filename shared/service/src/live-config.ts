import {
  type Config,
  type ConfigChange,
  ConfigError,
  type ConfigSource,
  changesBetween,
  type LoadedConfig,
  loadConfig,
  readChanges,
  type Setting,
} from '@nrdot/config';
import { AdminError, type AdminServer } from './admin.ts';
import type { ReadChanges } from './changes-worker.ts';
import { Thread, threadScript } from './thread.ts';

/**
 * Prepares a part of the service for a new configuration, and returns a function that applies it. The first may throw, in which
 * case nothing of the configuration is applied; the second must not.
 */
export type Follower = (next: Config, before: Config) => () => void;

/**
 * The configuration of a running process. A change is validated as a whole, prepared in every part, and only then applied
 * everywhere at once, so that it is never half-applied. Changes of options that are not live are rejected by name.
 */
export class LiveConfig {
  readonly #source: ConfigSource;
  readonly #followers: Follower[] = [];
  #loaded: LoadedConfig;
  #applied: Record<string, unknown> = {};

  /** @throws ConfigError */
  constructor(source: ConfigSource) {
    this.#source = source;
    this.#loaded = loadConfig(source);
  }

  get config(): Config {
    return this.#loaded.config;
  }

  /** Every option with its value (secrets redacted), the source of that, and whether it is live. */
  explain(): Setting[] {
    return this.#loaded.explain();
  }

  /** Subscribes to changes. */
  follow(follower: Follower): void {
    this.#followers.push(follower);
  }

  /**
   * The effect of changes.
   * @throws ConfigError
   */
  preview(changes: Changes): ConfigChange[] {
    return changesBetween(this.#loaded, this.#with({ ...this.#applied, ...changes }));
  }

  /**
   * Applies changes on top of the file, until the next reload or restart.
   * @throws ConfigError; AdminError `needs_restart` if an option is not live. Then nothing has changed
   */
  apply(changes: Changes): ConfigChange[] {
    const applied = { ...this.#applied, ...changes };
    const changed = this.#become(this.#with(applied));
    this.#applied = applied;
    return changed;
  }

  /**
   * Reads the file again, which discards changes that were applied at runtime.
   * @throws as `apply` does
   */
  reload(): ConfigChange[] {
    const changed = this.#become(this.#with({}));
    this.#applied = {};
    return changed;
  }

  #with(applied: Record<string, unknown>): LoadedConfig {
    return loadConfig({ ...this.#source, applied });
  }

  #become(next: LoadedConfig): ConfigChange[] {
    const changes = changesBetween(this.#loaded, next);
    const refused = changes.filter(({ live }) => !live).map(({ path }) => path);
    if (refused.length > 0) {
      const these = refused.length === 1 ? 'this option takes' : 'these options take';
      const message = `${refused.join(', ')}: ${these} effect only after a restart; nothing was applied`;
      throw new AdminError(409, 'needs_restart', message, { changes });
    }
    const put = this.#followers.map((follower) => follower(next.config, this.#loaded.config));
    for (const each of put) each();
    this.#loaded = next;
    return changes;
  }
}

/** Of a configuration, by dotted path. */
type Changes = Record<string, unknown>;

/** Time to parse them, which other requests with changes wait for. */
const READ_MS = 30_000;
/** Far more than all options with all their values. */
const CHANGES_MAX_BYTES = 32 * 1024;

/** Serves the configuration on the admin address. */
export function addConfigRoutes(admin: AdminServer, live: LiveConfig, applied: (by: string) => void): void {
  const thread = new Thread<{ text: string }, ReadChanges>(threadScript('changes-worker', import.meta.url), {
    deadlineMs: READ_MS,
    tooSlow: () =>
      new AdminError(400, 'bad_request', `reading the changes takes longer than ${READ_MS / 1000} s`),
  });
  const asked = async (body: unknown): Promise<Changes> => {
    if (typeof body === 'string') {
      const answer = await thread.ask({ text: body }, []);
      if ('problems' in answer) throw new ConfigError(answer.problems);
      return answer.changes;
    }
    if (typeof body === 'object' && body !== null && !Array.isArray(body)) return readChanges(body);
    const message = 'expected changes as JSON or YAML, such as {"scheduler":{"weights":{"high":4}}}';
    throw new AdminError(400, 'bad_request', message);
  };
  const checked = async <T>(attempt: () => T | Promise<T>): Promise<T> => {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      throw new AdminError(400, 'invalid_config', error.message, { problems: error.problems });
    }
  };
  admin.route('GET', '/api/config', () => ({ options: live.explain() }));
  const post = (name: string, answer: (changes: Changes) => object) =>
    admin.route('POST', `/api/config/${name}`, ({ body }) => checked(async () => answer(await asked(body))), {
      bodyMaxBytes: CHANGES_MAX_BYTES,
    });
  post('preview', (wanted) => {
    const changes = live.preview(wanted);
    return { changes, applies: changes.every((change) => change.live) };
  });
  post('apply', (wanted) => {
    const changes = live.apply(wanted);
    if (changes.length > 0) applied(`applied ${names(changes)}`);
    return { changes, until: 'the next reload or restart; write them to the file to keep them' };
  });
  admin.route('POST', '/api/config/reload', async () => {
    const changes = await checked(() => live.reload());
    applied(`reloaded: ${names(changes)}`);
    return { changes };
  });
}

/** For the log: names of the changed options, without values. */
export function names(changes: readonly ConfigChange[]): string {
  return changes.map(({ path }) => path).join(', ') || 'nothing changed';
}
