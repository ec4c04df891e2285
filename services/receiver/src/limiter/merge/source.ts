import { BLOCK, CELLS, CHANGED_BY, FLAGS, GONE, LIVE, SEEN } from './stream-words.ts';

/*
 * What is known of the cumulative streams that are merged into others: a cache of the ledger in Redis. 16 int32, 64 bytes each:
 * those of stream-words.ts, the value of a histogram being the hash of its bounds, and 10,11 hash of the stream it goes into,
 * without its writer.
 */
export const SOURCE_WORDS = 16;
export const INTO = 10;

/** Flags of a source: it goes to the overflow stream of its metric. */
export const OVERFLOW = 8;
/** Its own stream was forwarded up to its last known point. */
export const FORWARDED = 32;
/** It is sent unmerged, as deltas. */
export const CONVERTED = 64;

/*
 * A source in the ledger, little-endian:
 *
 *   0 flags   1 last seen, Unix seconds   5 start   13 time   21 value   29 hash of its stream   37 cells, 8 bytes each
 *
 * Bytes 5 to 21, start and time, are what a writer expects to find: the version of the entry.
 */
export const SOURCE_HEAD_BYTES = 37;

/**
 * Reads an entry of the ledger into the words at `at`, and its cells into a block of the arena.
 * @returns false if it is malformed or there is no room for its cells; the words are unchanged then
 */
export function unpackSource(
  bytes: Buffer,
  words: Int32Array,
  at: number,
  take: (cells: number) => number,
  arena: Float64Array,
): boolean {
  const cells = (bytes.length - SOURCE_HEAD_BYTES) / 8;
  if (!Number.isInteger(cells) || cells < 0) return false;
  let block = 0;
  if (cells > 0) {
    block = take(cells);
    if (block === 0) return false;
    for (let i = 0, from = SOURCE_HEAD_BYTES; i < cells; i++, from += 8)
      arena[block + i] = bytes.readDoubleLE(from);
  }
  words[at + FLAGS] = (bytes[0]! | LIVE) & ~GONE;
  for (let i = 0, from = 1; i < 9; i++, from += 4) words[at + SEEN + i] = bytes.readInt32LE(from);
  words[at + BLOCK] = block;
  words[at + CELLS] = cells;
  words[at + CHANGED_BY] = 0;
  return true;
}
