import { causeText } from '@nrdot/telemetry';

/**
 * Why the log could not take a record: it is at its capacity; the disk is full; the disk fails; the record is too large;
 * too much waits to be written already; the log is closed.
 */
export type SegmentLogFault = 'full' | 'disk_full' | 'disk_failing' | 'too_large' | 'busy' | 'closed';

export class SegmentLogError extends Error {
  readonly code: SegmentLogFault;

  constructor(code: SegmentLogFault, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'SegmentLogError';
    this.code = code;
  }
}

/** Tells a disk without room from one that fails. */
export function diskFault(error: unknown, what: string): SegmentLogError {
  if (error instanceof SegmentLogError) return error;
  const { code = 'unknown' } = error as NodeJS.ErrnoException;
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return new SegmentLogError(full ? 'disk_full' : 'disk_failing', `${what}: ${causeText(error)}`, {
    cause: error,
  });
}
