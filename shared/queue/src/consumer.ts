/** Thrown by a handler: try this job again after `delayMs`. The wait is BullMQ's delayed set, so it survives a kill. */
export class RetryLater extends Error {
  readonly delayMs: number;

  constructor(delayMs: number, message: string) {
    super(message);
    this.name = 'RetryLater';
    this.delayMs = delayMs;
  }
}

/** Takes the jobs of a queue, one way or another. */
export interface Consumer {
  /** Stops taking jobs and waits for those in flight, at most `timeoutMs`; what is left is taken up by others. */
  close(timeoutMs: number): Promise<void>;
  /** Stops taking jobs without waiting. */
  pause(): Promise<void>;
  resume(): void;
  setConcurrency(jobs: number): void;
}
