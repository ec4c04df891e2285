import { causeText } from '@nrdot/telemetry';

/**
 * Why the log could not take a record: it is at its capacity; the disk is full; the disk fails; the record is too large;
 * too much waits to be written already; the log is closed. Or why it can't be opened: a later version has written in it.
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
 * Whether an error says that the disk can't read what is on it. Whatever else keeps a file from being read (no descriptor
 * free, no permission, a share that is away) says nothing of its content, and may be over at the next try.
 */
export function isDamage(error: unknown): boolean {
  return codeOf(error) === 'EIO';
}

/** Whether the process or the machine has run out of something, so that any file may fail next. */
export function isExhausted(error: unknown): boolean {
  return ['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN'].includes(codeOf(error) ?? '');
}

export function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code;
}

export function isFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes(codeOf(error) ?? '');
}

/** Tells a disk without room from one that fails. */
export function diskFault(error: unknown, what: string): SegmentLogError {
  if (error instanceof SegmentLogError) return error;
  const code = isFull(error) ? 'disk_full' : 'disk_failing';
  return new SegmentLogError(code, `${what}: ${causeText(error)}`, { cause: error });
}
