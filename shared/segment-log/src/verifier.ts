import { isDamage } from './errors.ts';
import type { FileSystem } from './file-system.ts';
import type { Inventory } from './inventory.ts';
import { unreadable } from './recovery.ts';
import { type Segment, segmentPath } from './segment.ts';
import { SEGMENT_HEADER_BYTES } from './segment-header.ts';

/** Verifies the SHA-256 of an area's segments. */
export class Verifier {
  readonly #fs: FileSystem;
  readonly #inventory: Inventory;
  readonly #bytesPerSecond: number;
  /** Sequence of the segment verified last, so that one that cannot be verified now does not block others. */
  #at = 0;

  constructor(fs: FileSystem, inventory: Inventory, bytesPerSecond: number) {
    this.#fs = fs;
    this.#inventory = inventory;
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Whether a segment is sealed and was not verified since the log was opened. */
  isDue(segment: Segment): boolean {
    return segment.sha256 !== undefined && !segment.verified && segment.damage.length === 0;
  }

  /** Verifies one sealed segment that was not verified yet. @returns whether there was one */
  async verifyOne(): Promise<boolean> {
    const due = this.#inventory.segments.filter((candidate) => this.isDue(candidate));
    const segment = due.find(({ sequence }) => sequence > this.#at) ?? due[0];
    if (!segment) return false;
    this.#at = segment.sequence;
    await this.verify(segment);
    return true;
  }

  /** Verifies each sealed segment, again if it was verified before. @returns each segment afterwards */
  async *verifyAll(): AsyncGenerator<Segment> {
    const inventory = this.#inventory;
    for (const segment of [...inventory.segments]) {
      if (segment.sha256 !== undefined && segment.damage.length === 0) await this.verify(segment);
      if (inventory.has(segment)) yield segment;
    }
  }

  /** Never throws: a segment that the disk cannot read is damaged; one that is unreadable for another reason stays due. */
  async verify(segment: Segment, bytesPerSecond = this.#bytesPerSecond): Promise<void> {
    const inventory = this.#inventory;
    try {
      const path = segmentPath(inventory.dir, segment);
      const found = await this.#fs.sha256(path, SEGMENT_HEADER_BYTES, segment.end, bytesPerSecond);
      segment.verified = found.equals(segment.sha256!);
      if (!segment.verified) inventory.damage(segment, 'its content is not what its SHA-256 says');
    } catch (error) {
      // Retry after any other error. A missing file was acknowledged, or reading will report it.
      if (isDamage(error)) inventory.damage(segment, unreadable(error));
    }
  }
}
