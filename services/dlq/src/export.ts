import { protobufToJson, SIGNALS, type Signal } from '@nrdot/otlp';
import type { StoredRecord } from '@nrdot/segment-log';

/**
 * A batch as one line of OTLP JSON, as the Collector's file exporter writes it and as receivers accept it with
 * `application/json`.
 * @returns the line, or the reason why there is none
 */
export function exportLine({ envelope, payload }: StoredRecord): { line?: string; problem?: string } {
  if (!Object.hasOwn(SIGNALS, envelope.signal)) return { problem: `unknown signal ${envelope.signal}` };
  try {
    const line = protobufToJson(envelope.signal as Signal, payload);
    return line === undefined ? { problem: `${envelope.signal} have no JSON form here` } : { line };
  } catch (error) {
    return { problem: (error as Error).message };
  }
}
