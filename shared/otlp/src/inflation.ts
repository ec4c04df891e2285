import type { ContentEncoding, DecodeLimits } from './content.ts';
import { decodeAll } from './merge.ts';

/** Bodies that are decompressed into one, as stored. */
type Job = readonly Buffer[];

class NoRoom extends Error {}

/**
 * Bounds the decompressed bytes that all jobs of a service hold: 60 KiB of gzip may be 60 MiB. A job waits for room once, when it is
 * decompressed for the first time; one that needs more than there is in all waits until it is the only one.
 */
export class Inflation {
  readonly #maxBytes: number;
  readonly #changed: () => void;
  readonly #heldBy = new Map<Job, number>();
  readonly #waiting: { job: Job; bytes: number; admit: () => void }[] = [];
  #usedBytes = 0;

  constructor(maxBytes: number, changed: () => void = () => {}) {
    this.#maxBytes = maxBytes;
    this.#changed = changed;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /**
   * Decompresses the bodies of a job into one. They count as held until `release`.
   * @throws OtlpError as `decodeAll` does
   */
  async decode(job: Job, encoding: ContentEncoding, limits: DecodeLimits): Promise<Buffer> {
    if (encoding === 'identity') return decodeAll(job, encoding, limits);
    // Waiting again, while others that hold some wait as well, might never end.
    const before = this.#heldBy.get(job);
    let wanted = 0;
    while (true) {
      if (before === undefined) await this.#admitted(job, wanted);
      let needed = 0;
      const reserve = (bytes: number) => {
        needed += bytes;
        const more = needed - wanted;
        if (before === undefined && !this.#hasRoom(job, more)) throw new NoRoom();
        if (more > 0) this.#hold(job, (before ?? wanted) + more);
      };
      try {
        return await decodeAll(job, encoding, { ...limits, reserve });
      } catch (error) {
        if (!(error instanceof NoRoom)) throw error;
        this.release(job);
        wanted = Math.max(needed, 2 * wanted);
      }
    }
  }

  /** To be called when nothing of a job is held any more. */
  release(job: Job): void {
    if (!this.#heldBy.has(job)) return;
    this.#hold(job, 0);
    this.#heldBy.delete(job);
    this.#admitNext();
  }

  async #admitted(job: Job, bytes: number): Promise<void> {
    await new Promise<void>((admit) => {
      this.#waiting.push({ job, bytes, admit });
      this.#admitNext();
    });
  }

  /** In turn, so that a large one is not kept waiting by small ones. */
  #admitNext(): void {
    for (let [next] = this.#waiting; next && this.#hasRoom(next.job, next.bytes); [next] = this.#waiting) {
      this.#waiting.shift();
      this.#hold(next.job, next.bytes);
      next.admit();
    }
  }

  #hasRoom(job: Job, more: number): boolean {
    const others = this.#usedBytes - (this.#heldBy.get(job) ?? 0);
    return others === 0 || more <= 0 || this.#usedBytes + more <= this.#maxBytes;
  }

  #hold(job: Job, bytes: number): void {
    this.#usedBytes += bytes - (this.#heldBy.get(job) ?? 0);
    this.#heldBy.set(job, bytes);
    this.#changed();
  }
}
