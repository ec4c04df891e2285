import { expect, it, vi } from 'vitest';
import { AnswerBody } from './answer-body.ts';

it('a body that comes byte by byte takes a few buffers, not one for each', () => {
  const body = new AnswerBody();
  expect(body.bytes).toHaveLength(0);
  const sent = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i % 251));
  const spy = vi.spyOn(Buffer, 'allocUnsafe');
  for (let i = 0; i < sent.length; i++) body.append(sent.subarray(i, i + 1));
  expect(spy.mock.calls.length).toBeLessThan(20);
  spy.mockRestore();
  expect(body.bytes.equals(sent)).toBe(true);
  expect(sent[0]).toBe(0); // a chunk is not written to
});

it('a body of one chunk is that chunk', () => {
  const body = new AnswerBody();
  const chunk = Buffer.from('answer');
  body.append(chunk);
  expect(body.bytes.buffer).toBe(chunk.buffer);
  body.append(Buffer.from(' and more'));
  expect(body.bytes.toString()).toBe('answer and more');
  expect(chunk.toString()).toBe('answer');
});
