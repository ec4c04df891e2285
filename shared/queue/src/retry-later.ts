/** Thrown by a handler to retry the job after `delayMs`. The job waits in BullMQ's delayed set, so this survives a kill. */
export class RetryLater extends Error {
  readonly delayMs: number;

  constructor(delayMs: number, message: string) {
    super(message);
    this.name = 'RetryLater';
    this.delayMs = delayMs;
  }
}
