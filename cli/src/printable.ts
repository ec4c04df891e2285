/** Senders and upstreams choose names and messages, and terminals interpret control characters. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ');
}
