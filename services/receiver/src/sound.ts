import { isUtf8 } from 'node:buffer';
import {
  type BodyFormat,
  type InvalidUtf8,
  plural,
  readJson,
  SIGNALS,
  type Signal,
  type Sound,
  soundRequest,
} from '@nrdot/otlp';
import { type FixCounts, RequestFix } from './check/request-fix.ts';

export interface SoundOptions {
  maxDepth: number;
  /** How to treat strings that are not valid UTF-8. */
  invalidUtf8: InvalidUtf8 | 'reject_request';
  /** Removes what the backend would prune or shorten. */
  fix?: boolean;
  /** Larger requests with invalid items are not repaired: `TooMuchToMend` is thrown. */
  mendMaxBytes?: number | undefined;
}

export interface SoundBody extends Sound {
  /** What was removed, if anything. */
  fixed?: FixCounts | undefined;
}

const requestFix = new RequestFix();

/** A decompressed request as protobuf, without invalid items. @throws OtlpError */
export function soundProtobuf(
  signal: Signal,
  format: BodyFormat,
  decoded: Buffer,
  options: SoundOptions,
): SoundBody {
  const sound = soundAsSent(signal, format, decoded, options);
  if (!options.fix || sound.items === 0) return sound;
  const { body, counts } = requestFix.fix(signal, sound.body);
  return { ...sound, body, fixed: counts };
}

function soundAsSent(signal: Signal, format: BodyFormat, decoded: Buffer, options: SoundOptions): Sound {
  const { maxDepth, invalidUtf8 } = options;
  if (format === 'protobuf') return soundRequest(signal, decoded, options);
  const text =
    invalidUtf8 === 'replace' && !isUtf8(decoded) ? Buffer.from(decoded.toString('utf8')) : decoded;
  const lenient = invalidUtf8 !== 'reject_request' || isUtf8(decoded);
  const { body, rejected, message } = readJson(signal, text, { maxDepth, lenient });
  const sound = soundRequest(signal, body, options);
  if (message === '') return sound;
  const said = `rejected ${plural(rejected, SIGNALS[signal].item)} with a bad value; the first: ${message}`;
  return {
    ...sound,
    rejected: sound.rejected + rejected,
    message: [said, sound.message].filter(Boolean).join('. '),
  };
}
