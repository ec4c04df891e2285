import type { TapLine, TappedItem } from '@nrdot/receiver';
import { numberText } from '@nrdot/telemetry';
import { AdminClient, type AdminFlags } from '../admin-client.ts';
import { given } from '../flag-values.ts';
import { printable } from '../output.ts';
import { painter, usesColour } from '../terminal.ts';

interface TapFlags extends AdminFlags {
  class?: string;
  signal?: string;
  service?: string;
  limit: number;
  seconds: number;
}

/** `nrdot tap`: a sample of what a receiver accepts, one item after the other; a summary goes to standard error. */
export async function tapCommand(flags: TapFlags): Promise<void> {
  const { class: priorityClass, signal, service, limit, seconds } = flags;
  const filters = given({ class: priorityClass, signal, service });
  const query = new URLSearchParams({ limit: String(limit), seconds: String(seconds), ...filters });
  const client = new AdminClient(flags);
  const ended = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => ended.abort());
  process.stdout.on('error', () => ended.abort()); // its reader has gone, as `head` does
  const colour = usesColour(process.stdout);
  if (process.stderr.isTTY)
    process.stderr.write(`Waiting for up to ${limit} items, at most ${seconds} s; press Ctrl-C to stop.\n`);
  try {
    for await (const text of client.lines(`/api/tap?${query}`, ended.signal)) {
      const line = JSON.parse(text) as TapLine;
      if (!('end' in line)) process.stdout.write(`${flags.json ? text : itemText(line, colour)}\n`);
      else process.stderr.write(`${endText(line, flags)}\n`);
    }
  } catch (error) {
    if (!ended.signal.aborted) throw error;
  }
}

/** Two or three lines: the item, then its attributes and those of its resource. */
function itemText(item: TappedItem, colour: boolean): string {
  const paint = painter(colour);
  const { at, signal, service, name, about, traceId, spanId, attributes, resource } = item;
  const head = [
    new Date(at).toISOString().slice(11, 23),
    printable(signal).padEnd(7),
    printable(item.class).padEnd(8),
    paint(1, printable(service) || '(no service.name)'),
    ...(name ? [paint(1, printable(name))] : []),
    ...Object.entries(about).map(([key, value]) => printable(aboutText(key, value))),
    ...(traceId ? [printable(`trace ${traceId}`)] : []),
    ...(spanId ? [printable(`span ${spanId}`)] : []),
  ];
  const { 'service.name': _shown, ...rest } = resource;
  return [
    head.join('  '),
    ...(Object.keys(attributes).length > 0 ? [`    ${pairs(attributes)}`] : []),
    ...(Object.keys(rest).length > 0 ? [paint(2, `    resource  ${pairs(rest)}`)] : []),
  ].join('\n');
}

function aboutText(key: string, value: unknown): string {
  if (key === 'kind') return String(value);
  if (key === 'durationMs') return `${Number(value).toFixed(1)} ms`;
  return `${key} ${printed(value)}`;
}

function pairs(values: Record<string, unknown>): string {
  return Object.entries(values)
    .map(([key, value]) => `${printable(key)}=${printed(value)}`)
    .join(' ');
}

function printed(value: unknown): string {
  if (typeof value !== 'string') return printable(JSON.stringify(value));
  return /^[\w.:/@+%[\]-]+$/.test(value) ? value : printable(JSON.stringify(value));
}

function endText(
  { end, items, batches, sampled }: Extract<TapLine, { end: string }>,
  flags: TapFlags,
): string {
  const seen = `${numberText(items)} items shown, from ${numberText(sampled)} of ${numberText(batches)} batches`;
  const reason = {
    limit: 'the limit was reached',
    time: 'the time is up',
    stopped: 'the receiver is stopping',
  }[end];
  if (items > 0) return `${seen}; ${reason}.`;
  const filters = [flags.class, flags.signal, flags.service].filter((filter) => filter !== undefined);
  const hint =
    batches === 0
      ? 'No data arrived: is anything sending? nrdot status shows the traffic, nrdot generate sends a load.'
      : 'No batch matched; try fewer filters or more seconds.';
  return `Nothing to show${filters.length > 0 ? ` for ${filters.join(', ')}` : ''}; ${reason}. ${hint}`;
}
