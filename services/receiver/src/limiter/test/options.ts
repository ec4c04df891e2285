import { loadConfig } from '@nrdot/config';
import type { LimiterOptions } from '../options.ts';

const { limiter } = loadConfig({ env: {} }).config;
const DEFAULTS: LimiterOptions = { ...limiter, mode: 'enforce' };

/** The options of a limiter: these, and otherwise the defaults. */
export function limiterOptions(options: Partial<LimiterOptions> = {}): LimiterOptions {
  return { ...DEFAULTS, ...options };
}
