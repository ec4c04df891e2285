import { existsSync } from 'node:fs';
import type { ConfigSource } from '@nrdot/config';

/** Flags of every command that reads a configuration. */
export interface ConfigFlags {
  config?: string;
  upstream?: string;
  listen?: string;
  admin?: string;
  data?: string;
  json?: boolean;
}

const DEFAULT_FILE = 'nrdot.yaml';

/** Source of the configuration: the given or default file, overridden by flags. */
export function configSource(flags: ConfigFlags): ConfigSource {
  const file = flags.config ?? (existsSync(DEFAULT_FILE) ? DEFAULT_FILE : undefined);
  const overrides: Record<string, string> = {};
  if (flags.upstream) overrides['exporter.endpoint'] = flags.upstream;
  if (flags.listen) overrides['receiver.listen'] = flags.listen;
  if (flags.admin) overrides['admin.listen'] = flags.admin;
  if (flags.data) overrides.data_dir = flags.data;
  if (flags.json) overrides['log.format'] = 'json';
  return { ...(file ? { file } : {}), overrides, env: process.env };
}
