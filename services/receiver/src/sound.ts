import { isUtf8 } from 'node:buffer';
import {
  type BodyFormat,
  discard,
  type InvalidUtf8,
  plural,
  readJson,
  SIGNALS,
  type Signal,
  type Sound,
  soundRequest,
  WireWriter,
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
  /** Maximum size of the request as protobuf; more is refused with 413, before memory is taken for it. */
  maxBodyBytes?: number;
  /** The body is of no use once there is another form of it, so that its memory is given back. */
  isSpent?: boolean;
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
  if (options.isSpent && body !== sound.body) discard(sound.body);
  return { ...sound, body, fixed: counts };
}

function soundAsSent(signal: Signal, format: BodyFormat, decoded: Buffer, options: SoundOptions): Sound {
  const { maxDepth, invalidUtf8, maxBodyBytes, isSpent } = options;
  if (format === 'protobuf') return replacing(decoded, soundRequest(signal, decoded, options), isSpent);
  const isText = isUtf8(decoded);
  const text = invalidUtf8 === 'replace' && !isText ? asUtf8(decoded, maxBodyBytes) : decoded;
  if (isSpent && text !== decoded) discard(decoded);
  const lenient = invalidUtf8 !== 'reject_request' || isText;
  const { body, rejected, message } = readJson(signal, text, { maxDepth, lenient, maxBodyBytes });
  if (isSpent) discard(text);
  const sound = replacing(body, soundRequest(signal, body, { ...options, isReduced: rejected > 0 }), isSpent);
  if (message === '') return sound;
  const said = `rejected ${plural(rejected, SIGNALS[signal].item)} with a bad value; the first: ${message}`;
  return {
    ...sound,
    rejected: sound.rejected + rejected,
    message: [said, sound.message].filter(Boolean).join('. '),
  };
}

/** @returns `sound`; what it replaces gives its memory back */
function replacing(body: Buffer, sound: Sound, isSpent = false): Sound {
  if (isSpent && sound.body !== body) discard(body);
  return sound;
}

const REPLACED_AT_ONCE_BYTES = 64 * 1024;

/** The text with U+FFFD for what is not valid UTF-8; in slices, because it may take three times as many bytes. */
function asUtf8(text: Buffer, maxBytes?: number): Buffer {
  const out = new WireWriter(text.byteLength, maxBytes);
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  for (let from = 0; from < text.byteLength; from += REPLACED_AT_ONCE_BYTES) {
    const to = Math.min(from + REPLACED_AT_ONCE_BYTES, text.byteLength);
    const bytes = Buffer.from(decoder.decode(text.subarray(from, to), { stream: to < text.byteLength }));
    out.raw(bytes, 0, bytes.byteLength);
  }
  return out.finish();
}
