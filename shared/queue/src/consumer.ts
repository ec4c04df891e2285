/** Thrown by a handler to retry the job after `delayMs`. The job waits in BullMQ's delayed set, so this survives a kill. */
export class RetryLater extends Error {
  readonly delayMs: number;

  constructor(delayMs: number, message: string) {
    super(message);
    this.name = 'RetryLater';
    this.delayMs = delayMs;
  }
}

/** Consumes the jobs of a queue. */
export interface Consumer {
  /** Stops taking jobs and waits for those in flight, at most `timeoutMs`; other consumers take what is left. */
  close(timeoutMs: number): Promise<void>;
  /** Stops taking jobs without waiting. */
  pause(): Promise<void>;
  resume(): void;
  setConcurrency(jobs: number): void;
}
