/** Prints a result: as JSON with `--json`, otherwise as text. */
export function print({ json }: { json?: boolean }, value: unknown, text: string): void {
  process.stdout.write(`${json ? JSON.stringify(value, null, 2) : text}\n`);
}

/** Prints an object of a command that goes on: as one line of JSON with `--json`, otherwise as text. */
export function printLine({ json }: { json?: boolean }, value: object, text: string): void {
  process.stdout.write(`${json ? JSON.stringify(value) : text}\n`);
}

/**
 * Senders and upstreams choose names and messages. Terminals interpret control characters, line and paragraph separators, and marks
 * that change the direction of the text.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\ufeff]+/gu, ' ');
}

/** Columns as wide as their content, separated by two blanks. Empty without rows. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return '';
  const all = [head, ...rows].map((row) => row.map(printable));
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
