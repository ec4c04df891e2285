import { packed } from '../hash.ts';
import { NumberValue } from './accumulate-number.ts';
import type { Output } from './output-table.ts';

/** Whether it is an integer, then its 8 bytes. */
const LEVEL_BYTES = 9;
const value = new NumberValue();

/** A hash as a field name: its 8 bytes. */
export function fieldOf(lo: number, hi: number): Buffer {
  return packed([lo, hi]);
}

/** The same as a key of maps. */
export function nameOf(lo: number, hi: number): string {
  return fieldOf(lo, hi).toString('latin1');
}

/** The value of a level, as it is stored across restarts; nothing for 0. */
export function levelOf(output: Output): Buffer {
  output.readValue(value);
  if (value.isInt ? value.lo === 0 && value.hi === 0 : value.double === 0) return Buffer.alloc(0);
  const bytes = Buffer.alloc(LEVEL_BYTES);
  bytes[0] = value.isInt ? 1 : 0;
  if (value.isInt) {
    bytes.writeInt32LE(value.lo, 1);
    bytes.writeInt32LE(value.hi, 5);
  } else bytes.writeDoubleLE(value.double, 1);
  return bytes;
}

/** Gives a level the value that was stored, if there is one. */
export function resumeLevel(output: Output, stored: Buffer | undefined): void {
  if (stored?.length !== LEVEL_BYTES) return;
  if (stored[0] === 1) value.setInt(stored.readInt32LE(1), stored.readInt32LE(5));
  else value.setDouble(stored.readDoubleLE(1));
  output.writeValue(value);
}
