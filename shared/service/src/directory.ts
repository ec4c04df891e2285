import { accessSync, constants, existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { causeText } from '@nrdot/telemetry';

/**
 * Makes a directory with those above it, where it is not there yet.
 * @param option the option that names it
 * @throws Error that says which directory it is about, and why it cannot be written
 */
export function makeDirectory(path: string, option: string, mode?: number): void {
  try {
    mkdirSync(path, { recursive: true, ...(mode === undefined ? {} : { mode }) });
    accessSync(path, constants.W_OK);
  } catch (error) {
    throw new Error(`${option}: ${reasonOf(error, resolve(path))}`, { cause: error });
  }
}

/** For a read-only file system the system says that something does not exist: what is there already knows better. */
function reasonOf(error: unknown, path: string): string {
  let present = path;
  while (!existsSync(present) && dirname(present) !== present) present = dirname(present);
  try {
    accessSync(present, constants.W_OK);
  } catch (denied) {
    return `${path} cannot be ${present === path ? 'written' : 'made'}: ${causeText(denied)}${ownersOf(denied, present)}`;
  }
  return `${path} cannot be made: ${causeText(error)}`;
}

/**
 * Whose something is and who this process is, as a permission that is missing asks for: a volume of Kubernetes or Docker comes as
 * root's, or has been written by another user before.
 */
function ownersOf(error: unknown, path: string): string {
  const { code } = error as { code?: unknown };
  if ((code !== 'EACCES' && code !== 'EPERM') || !process.getuid || !process.getgid) return '';
  const { uid, gid, mode } = statSync(path);
  const own = process.getuid();
  return (
    `: it belongs to uid ${uid} and gid ${gid}, mode ${(mode & 0o7777).toString(8)}; this process has uid ${own} and gid ${process.getgid()}. ` +
    `Give it to this user ("chown -R ${own}"), or on Kubernetes to a group of the pod (fsGroup)`
  );
}

/**
 * A permission that is missing for something in a directory, in words that say what, whose it is and what to do; other errors as they are.
 * @param option the option that names the directory
 */
export function permissionError(error: unknown, option: string): unknown {
  const { path } = error as { path?: unknown };
  const owners = typeof path === 'string' && existsSync(path) ? ownersOf(error, path) : '';
  return owners ? new Error(`${option}: ${causeText(error)}${owners}`, { cause: error }) : error;
}
