import { causeText } from '@nrdot/telemetry';

/**
 * Why the log could not append a record: it is at its capacity, the disk is full, the disk fails, the record is too large, too
 * many records are waiting, or the log is closed. Or why it cannot be opened: a later version has written to it.
 */
export type SegmentLogFault =
  | 'full'
  | 'disk_full'
  | 'disk_failing'
  | 'too_large'
  | 'busy'
  | 'closed'
  | 'newer_format';

export class SegmentLogError extends Error {
  readonly code: SegmentLogFault;

  constructor(code: SegmentLogFault, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'SegmentLogError';
    this.code = code;
  }
}

/**
 * Whether an error means that the disk cannot read what is on it. All other errors (no descriptor, no permission, an
 * unreachable share) say nothing about the content and may be gone at the next attempt.
 */
export function isDamage(error: unknown): boolean {
  return codeOf(error) === 'EIO';
}

/** Whether the process or the machine has run out of a resource, so that any file may fail next. */
export function isExhausted(error: unknown): boolean {
  return ['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN'].includes(codeOf(error) ?? '');
}

export function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code;
}

export function isFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes(codeOf(error) ?? '');
}

/** Distinguishes a full disk from a failing one. */
export function diskFault(error: unknown, what: string): SegmentLogError {
  if (error instanceof SegmentLogError) return error;
  const code = isFull(error) ? 'disk_full' : 'disk_failing';
  return new SegmentLogError(code, `${what}: ${causeText(error)}`, { cause: error });
}
