import { accessSync, constants, existsSync, mkdirSync } from 'node:fs';
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
    return `${path} cannot be made: ${causeText(denied)}`;
  }
  return `${path} cannot be made: ${causeText(error)}`;
}
