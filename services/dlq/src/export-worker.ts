import { parentPort } from 'node:worker_threads';
import { exportParts, type ThreadAnswer, type ThreadRequest } from './export.ts';

let parts: Iterator<string> = [].values();

/** The thread that writes large batches as JSON: a batch begins a line, and each further message asks for its next part. */
parentPort!.on('message', ({ record }: ThreadRequest) => {
  let answer: ThreadAnswer = {};
  if (record) {
    const made = exportParts({ ...record, payload: Buffer.from(record.payload.buffer) });
    parts = (made.parts ?? [])[Symbol.iterator]();
    if (made.problem !== undefined) answer = { problem: made.problem };
  }
  const { value, done } = parts.next();
  if (!done) answer = { bytes: new TextEncoder().encode(value) };
  parentPort!.postMessage(answer, answer.bytes ? [answer.bytes.buffer] : []);
});
