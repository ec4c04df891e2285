/** Senders and upstreams choose names and messages, and a terminal obeys control characters. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ');
}
