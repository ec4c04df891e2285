/*
 * What sources and outputs have in common, in int32 words:
 *
 *   0,1 hash     2 flags, never 0     3 last seen, Unix seconds     4,5 start     6,7 time     8,9 value: bits of a number
 *   12 block in the arena, or 0     13 cells of it     14 request that changed it last     15 its place among the changes
 */
export const FLAGS = 2;
export const SEEN = 3;
export const START = 4;
export const TIME = 6;
export const VALUE = 8;
export const BLOCK = 12;
export const CELLS = 13;
export const CHANGED_BY = 14;
export const PLACE = 15;

/** Flags of both. */
export const LIVE = 1;
export const INTEGER = 2;
/** A non-monotonic sum. */
export const LEVEL = 4;
/** Of a source: known to be missing in the ledger, or removed by the current request. Undoing a change removes it. */
export const GONE = 16;
