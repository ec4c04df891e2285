import type { Accounting } from '@nrdot/queue';
import { leftText } from '@nrdot/scheduler/findings';
import type { Stopped } from './pipeline.ts';

/**
 * What is said when a process has stopped. It is clean when every service ended in order and had a Redis at some time.
 * @param left what the books say at the end; undefined when they could not be read; left out where others keep them
 */
export function stoppedText(
  { unclean, unreached }: Stopped,
  left?: { books: Pick<Accounting, 'queued' | 'on_disk'> | undefined },
): { clean: boolean; text: string } {
  const failed = unclean.map(({ service, message }) => `the ${service} did not stop cleanly (${message})`);
  // What is left says so itself, where it is told.
  const never = unreached.length > 0 && !left ? ['Redis was never reached'] : [];
  const troubles = [...failed, ...never];
  const head = troubles.length === 0 ? 'stopped' : `stopped, but ${troubles.join(', and ')}`;
  const text = left ? `${head[0]!.toUpperCase()}${head.slice(1)}. ${leftText(left.books)}` : head;
  return { clean: troubles.length + unreached.length === 0, text };
}
