import { jsonParts, SIGNALS, type Signal } from '@nrdot/otlp';
import type { StoredRecord } from '@nrdot/segment-log';

/**
 * A batch as one line of OTLP JSON, as the Collector's file exporter writes it and as receivers accept it with
 * `application/json`.
 * @returns the line in parts, or the reason why there is none
 */
export function exportParts({ envelope, payload }: StoredRecord): {
  parts?: Iterable<string>;
  problem?: string;
} {
  if (!Object.hasOwn(SIGNALS, envelope.signal)) return { problem: `unknown signal ${envelope.signal}` };
  try {
    const parts = jsonParts(envelope.signal as Signal, payload);
    return parts === undefined ? { problem: `${envelope.signal} have no JSON form here` } : { parts };
  } catch (error) {
    return { problem: (error as Error).message };
  }
}
