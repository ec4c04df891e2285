import { setImmediate as turn } from 'node:timers/promises';
import { asBuffer, decodeContent } from '@nrdot/otlp';
import type { Batch } from '@nrdot/queue';
import type { CheckStatus } from '@nrdot/status';
import { CheckCounts, type CheckReport } from './check-report.ts';
import { RequestCheck } from './request-check.ts';
import { CHECK_RULES, type CheckRule } from './rules.ts';

export interface LiveCheckReport extends CheckReport {
  /** Share of the batches that are checked; 0 for none. */
  sample: number;
  batches: {
    /** Checked batches. */
    checked: number;
    /** Sampled batches that were too large, or came while too many were waiting. */
    skipped: number;
  };
}

/** Limits on waiting batches, and on the decompressed size of one. */
const WAITING_MAX = 1_000;
const WAITING_MAX_BYTES = 8 * 1024 * 1024;
const DECODED_MAX_BYTES = 2 * 1024 * 1024;

/** Checks a sample of the acknowledged batches against the rules, when the process has time. */
export class LiveCheck {
  readonly #counts = new CheckCounts();
  readonly #check = new RequestCheck(this.#counts);
  readonly #waiting: Batch[] = [];
  readonly #random: () => number;
  #waitingBytes = 0;
  #isBusy = false;
  #checked = 0;
  #skipped = 0;
  /** Share of the batches, 0 to 1. */
  sample: number;

  constructor(sample: number, random: () => number = Math.random) {
    this.sample = sample;
    this.#random = random;
  }

  /** Queues a batch; its payload is read later and must not change. */
  offer(batch: Batch): void {
    if (this.sample === 0 || batch.signal === 'profiles') return;
    if (this.sample < 1 && this.#random() >= this.sample) return;
    const { byteLength } = batch.payload;
    if (this.#waiting.length >= WAITING_MAX || this.#waitingBytes + byteLength > WAITING_MAX_BYTES) {
      this.#skipped++;
      return;
    }
    this.#waitingBytes += byteLength;
    this.#waiting.push(batch);
    if (!this.#isBusy) void this.#work();
  }

  report(): LiveCheckReport {
    const batches = { checked: this.#checked, skipped: this.#skipped };
    return { sample: this.sample, batches, ...this.#counts.report() };
  }

  /** Summary for `nrdot status` and the console. */
  status(): CheckStatus {
    const items = Object.values(this.#counts.report().checked).reduce((sum, checked) => sum + checked, 0);
    const broken = this.#counts
      .totals()
      .map((total) => ({ ...total, effect: CHECK_RULES[total.rule].effect }));
    return { sample: this.sample, items, broken };
  }

  /** Checked items that broke a rule. */
  totals(): readonly { signal: string; rule: CheckRule; items: number }[] {
    return this.#counts.totals();
  }

  async #work(): Promise<void> {
    this.#isBusy = true;
    for (let batch = this.#waiting.shift(); batch; batch = this.#waiting.shift()) {
      await turn(); // let other work run between two batches
      try {
        await this.#look(batch);
        this.#checked++;
      } catch {
        this.#skipped++; // too large when decompressed
      }
      this.#waitingBytes -= batch.payload.byteLength;
    }
    this.#isBusy = false;
  }

  async #look({ signal, payload, encoding }: Batch): Promise<void> {
    const body = await decodeContent(asBuffer(payload), encoding, { maxBytes: DECODED_MAX_BYTES });
    for (const _ of this.#check.pieces(signal, body, Date.now())) await turn();
  }
}
