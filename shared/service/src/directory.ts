import { accessSync, constants, existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { causeText } from '@nrdot/telemetry';

/**
 * Creates a directory and its parents, if missing.
 * @param option the option that names it
 * @throws Error that says which directory cannot be written, and why
 */
export function makeDirectory(path: string, option: string, mode?: number): void {
  try {
    mkdirSync(path, { recursive: true, ...(mode === undefined ? {} : { mode }) });
    accessSync(path, constants.W_OK);
  } catch (error) {
    throw new Error(`${option}: ${reasonOf(error, resolve(path))}`, { cause: error });
  }
}

/** On a read-only file system the system reports a missing path, so find the parent that does exist. */
function reasonOf(error: unknown, path: string): string {
  let present = path;
  while (!existsSync(present) && dirname(present) !== present) present = dirname(present);
  try {
    accessSync(present, constants.W_OK);
  } catch (denied) {
    return `${path} cannot be ${present === path ? 'written' : 'created'}: ${causeText(denied)}${ownersOf(denied, present)}`;
  }
  return `${path} cannot be created: ${causeText(error)}`;
}

/**
 * Owner of a path and user of this process, for a missing permission: a volume of Kubernetes or Docker belongs to root, or to
 * another user who has written to it.
 */
function ownersOf(error: unknown, path: string): string {
  const { code } = error as { code?: unknown };
  if ((code !== 'EACCES' && code !== 'EPERM') || !process.getuid || !process.getgid) return '';
  const { uid, gid, mode } = statSync(path);
  const own = process.getuid();
  return (
    `: it belongs to uid ${uid} and gid ${gid}, mode ${(mode & 0o7777).toString(8)}; this process has uid ${own} and gid ${process.getgid()}. ` +
    `Change its owner to this user ("chown -R ${own}"), or on Kubernetes its group to one of the pod (fsGroup)`
  );
}

/**
 * Explains a missing permission in a directory: what, whose, and what to do; other errors stay unchanged.
 * @param option the option that names the directory
 */
export function permissionError(error: unknown, option: string): unknown {
  const { path } = error as { path?: unknown };
  const owners = typeof path === 'string' && existsSync(path) ? ownersOf(error, path) : '';
  return owners ? new Error(`${option}: ${causeText(error)}${owners}`, { cause: error }) : error;
}
