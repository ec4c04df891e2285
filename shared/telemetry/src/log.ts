import { type Logger as PinoLogger, pino } from 'pino';

export type Logger = PinoLogger;

export interface LogOptions {
  level: 'debug' | 'info' | 'warn' | 'error' | 'silent';
  /** `json`: one object per line. `text`: one readable line, for a terminal. */
  format: 'json' | 'text';
  /** Destination of lines. Default: standard error, since standard output is for results. */
  write?: (line: string) => void;
}

const LABELS: Record<number, string> = { 20: 'debug', 30: 'info', 40: 'warn', 50: 'error', 60: 'fatal' };

/**
 * The structured log of a process. It contains no payloads, headers or attribute values; messages of an upstream are shortened
 * and stripped of control characters before.
 */
export function createLogger(options: LogOptions): Logger {
  const write = options.write ?? ((line: string) => void process.stderr.write(line));
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write: options.format === 'json' ? write : (line) => write(asText(line)) },
  );
}

/** Formats a JSON line as a readable one: `12:01:02.123 warn  receiver  message  key=value`. */
export function asText(line: string): string {
  let entry: Record<string, unknown>;
  try {
    entry = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return line;
  }
  // The machine-readable fields of an event are in its message.
  const { level, time, msg, service, event, ...others } = entry;
  const { state, lastedMs, untold, ...told } = others;
  const rest = event === undefined ? others : told;
  const label = typeof level === 'number' ? (LABELS[level] ?? String(level)) : String(level);
  const fields = Object.entries(rest)
    .map(
      ([key, value]) =>
        `${key}=${typeof value === 'string' ? quoted(value) : onOneLine(JSON.stringify(value))}`,
    )
    .join(' ');
  const clock = String(time).slice(11, 23);
  return `${clock} ${label.padEnd(5)} ${onOneLine(String(service ?? 'nrdot')).padEnd(9)} ${onOneLine(String(msg ?? ''))}${fields ? `  ${fields}` : ''}\n`;
}

function quoted(value: string): string {
  return /^[^\s"=]+$/.test(value) && onOneLine(value) === value ? value : onOneLine(JSON.stringify(value));
}

/** Escapes what a terminal would interpret or a reader would take for a new line. */
function onOneLine(text: string): string {
  return text.replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
