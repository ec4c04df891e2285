import type { Accounting } from '@nrdot/queue';
import { leftText } from '@nrdot/status/findings';
import type { Stopped } from './pipeline.ts';

/**
 * The message when a process has stopped. It is clean if every service stopped gracefully and has reached Redis at some time.
 * @param left the accounting at the end; undefined if it was unreadable; absent if others run Redis
 */
export function stoppedText(
  { unclean, unreached }: Stopped,
  left?: { books: Pick<Accounting, 'queued' | 'on_disk'> | undefined },
): { clean: boolean; text: string } {
  const failed = unclean.map(({ service, message }) => `the ${service} did not stop cleanly (${message})`);
  // The text about what is left says so itself.
  const never = unreached.length > 0 && !left ? ['Redis was never reached'] : [];
  const troubles = [...failed, ...never];
  const head = troubles.length === 0 ? 'stopped' : `stopped, but ${troubles.join(', and ')}`;
  const text = left ? `${head[0]!.toUpperCase()}${head.slice(1)}. ${leftText(left.books)}` : head;
  return { clean: troubles.length + unreached.length === 0, text };
}
