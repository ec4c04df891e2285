import { asOneStream, type ContentEncoding, encodeContent, Inflation, OtlpError } from '@nrdot/otlp';
import type { HandOverJob, JobData } from '@nrdot/queue';
import { Divider, type Part } from './divider.ts';
import { grouped, partsOf } from './pieces.ts';

/** Maximum number of parts per split; parts that are still too large are split again in their turn. */
const MAX_PARTS = 128;
/** Target size of a part, as a share of the limit: parts compress a little worse than the whole. */
const PART_FILL = 0.9;

/** A request as sent. */
export interface Request {
  body: Buffer;
  encoding: ContentEncoding;
}

/** Makes the payloads of a job the body of one request, or of several. Those that were decompressed count until `release`. */
export class Bodies {
  readonly #divider = new Divider();
  readonly #inflation: Inflation;
  readonly #limit: { maxBytes: number };

  /**
   * @param maxBytes maximum size of a request after decompression
   * @param maxInflatedBytes maximum bytes of decompressed payloads, for all jobs together
   * @param changed called when `inflatedBytes` has changed
   */
  constructor(maxBytes: number, maxInflatedBytes: number, changed: () => void) {
    this.#limit = { maxBytes };
    this.#inflation = new Inflation(maxInflatedBytes, changed);
  }

  get inflatedBytes(): number {
    return this.#inflation.usedBytes;
  }

  /** To be called when nothing of a job's payloads is held any more. */
  release(payloads: Buffer[]): void {
    this.#inflation.release(payloads);
  }

  stop(): Promise<void> {
    return this.#divider.stop();
  }

  /**
   * One body for all batches: the received bytes, unless another encoding is needed.
   * @returns undefined if they cannot be one request
   */
  compose(
    job: JobData,
    payloads: Buffer[],
    encoding: ContentEncoding,
  ): Request | undefined | Promise<Request | undefined> {
    // Profiles refer to a dictionary in their own request.
    if (payloads.length > 1 && job.signal === 'profiles') return undefined;
    const body =
      encoding === job.encoding
        ? asOneStream(payloads, encoding, this.#limit)
        : this.#recoded(job, payloads, encoding);
    if (!(body instanceof Promise)) return { body, encoding };
    return body.then(
      (made) => ({ body: made, encoding }),
      (error) => {
        if (!(error instanceof OtlpError)) throw error;
        // Too large together, or damaged: send each by itself, as received.
        return payloads.length > 1 ? undefined : { body: payloads[0]!, encoding: job.encoding };
      },
    );
  }

  async #recoded(job: JobData, payloads: Buffer[], encoding: ContentEncoding): Promise<Buffer> {
    const plain = await this.#inflation.decode(payloads, job.encoding, this.#limit);
    return encodeContent(plain, encoding);
  }

  /**
   * Jobs of up to `maxBytes` per request on the wire, all created in one step: groups of batches of a merged job, or parts of a
   * single batch.
   * @param wireBytes size of all batches together
   * @returns undefined if there is nothing to split
   */
  async divided(
    job: JobData,
    payloads: Buffer[],
    wireBytes: number,
    maxBytes: number,
  ): Promise<HandOverJob[] | undefined> {
    const share = maxBytes / wireBytes;
    if (job.batches.length > 1) return grouped(job, job.bytes * share);
    if (job.signal === 'profiles') return undefined;
    const plain = await this.#plainOf(job, payloads);
    if (!plain) return undefined;
    const target = Math.ceil(plain.byteLength * Math.max(share * PART_FILL, 1 / MAX_PARTS));
    const parts = await this.#divide(job, plain, target);
    if (parts.length < 2) return undefined;
    // The name contains the target size: a split that is repeated after a crash has the same name only if it has the same
    // parts.
    const names = parts.map((_, i) => `${target.toString(36)}c${i.toString(36)}`);
    return partsOf(job, parts, names);
  }

  /** @returns jobs for both halves of a job's only batch; undefined if it can't be split */
  async halved(job: JobData, payloads: Buffer[]): Promise<HandOverJob[] | undefined> {
    const plain = await this.#plainOf(job, payloads);
    const halves = plain ? await this.#divide(job, plain) : [];
    return halves.length < 2 ? undefined : partsOf(job, halves, ['a', 'b']);
  }

  #divide({ signal, encoding }: JobData, plain: Buffer, maxBytes?: number): Promise<Part[]> {
    return this.#divider.divide({ signal, plain, encoding, maxBytes });
  }

  async #plainOf(job: JobData, payloads: Buffer[]): Promise<Buffer | undefined> {
    try {
      return await this.#inflation.decode(payloads, job.encoding, this.#limit);
    } catch (error) {
      if (error instanceof OtlpError) return undefined;
      throw error;
    }
  }
}
