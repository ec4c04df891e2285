/** What the product draws at random is the same in every run of a schedule, or it could not be had again. */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';

const real = { randomInt: crypto.randomInt, randomBytes: crypto.randomBytes };
let drawn = 0;

/** To be called before each run. */
export function beginChance(): void {
  drawn = 0;
}

/** @returns what puts real chance back */
export function installChance(): () => void {
  const put = crypto as unknown as Record<string, unknown>;
  put.randomInt = (below: number) => ++drawn % below;
  put.randomBytes = (size: number) => {
    const bytes = Buffer.alloc(size);
    bytes.writeUInt32BE(++drawn, size - 4);
    return bytes;
  };
  syncBuiltinESMExports();
  return () => {
    Object.assign(crypto, real);
    syncBuiltinESMExports();
  };
}
