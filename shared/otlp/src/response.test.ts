import { describe, expect, it } from 'vitest';
import { exportResponse, readExportResponse, readStatus, statusBody } from './response.ts';

const PROTOBUF = 'application/x-protobuf';
const JSON_TYPE = 'application/json; charset=utf-8';

describe('responses', () => {
  it('of full success are empty, with partial_success unset', () => {
    expect(exportResponse('traces', 'protobuf')).toHaveLength(0);
    expect(exportResponse('traces', 'json').toString()).toBe('{}');
  });

  it('of partial success read back, in either form, for each signal', () => {
    for (const signal of ['traces', 'metrics', 'logs', 'profiles'] as const) {
      const partial = { rejected: 3, message: 'dropped by the limiter' };
      expect(readExportResponse(signal, exportResponse(signal, 'protobuf', partial), PROTOBUF)).toEqual(
        partial,
      );
      expect(readExportResponse(signal, exportResponse(signal, 'json', partial), JSON_TYPE)).toEqual(partial);
    }
    expect(exportResponse('logs', 'json', { rejected: 1, message: '' }).toString()).toContain(
      '"rejectedLogRecords":"1"',
    );
  });

  it('that are damaged or strange are read as nothing, never as a fault', () => {
    for (const body of [
      '',
      '<html>',
      '{"partialSuccess":null}',
      '[]',
      '{"partialSuccess":{"rejectedSpans":"-4"}}',
    ]) {
      expect(readExportResponse('traces', Buffer.from(body), JSON_TYPE)).toBeUndefined();
      expect(readExportResponse('traces', Buffer.from(body), PROTOBUF)).toBeUndefined();
    }
    expect(readStatus(Buffer.from([255, 255]), PROTOBUF)).toBeUndefined();
  });

  it('that refuse more than there can be refuse all', () => {
    const body = (count: string) => Buffer.from(`{"partialSuccess":{"rejectedSpans":${count}}}`);
    for (const count of ['"9223372036854775807"', '1e300'])
      expect(readExportResponse('traces', body(count), JSON_TYPE)?.rejected).toBe(Number.MAX_SAFE_INTEGER);
  });

  it('of failures are a Status, in either form', () => {
    const status = { code: 3, message: 'spans[0].name: expected a string' };
    expect(readStatus(statusBody('protobuf', status.code, status.message), PROTOBUF)).toEqual(status);
    expect(readStatus(statusBody('json', status.code, status.message), JSON_TYPE)).toEqual(status);
    expect(readStatus(Buffer.from('Bad gateway'), 'text/plain')).toEqual({ code: 0, message: 'Bad gateway' });
  });
});
