/** What a process is told to do to itself; nothing when a field is absent. */
export interface Orders {
  /** How far its wall clock is off, in ms. */
  clockMs?: number;
  /** Share of writes and fsyncs that fail with EIO, 0 to 1. */
  eioRate?: number;
  /** Share of opens, renames, unlinks, listings and reads in the dlq's directory that fail with EIO, 0 to 1. */
  eioElsewhereRate?: number;
  /** How long each fsync takes longer, in ms. */
  fsyncMs?: number;
}
