import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeProtobuf, temporaryDirectory } from '@nrdot/testbed';
import { expect, it, vi } from 'vitest';
import { checkFileCommand } from './check-traffic.ts';

it('a request in protobuf is one, also when its first resource has as many bytes as { has in ASCII', () => {
  const request = (name: string) =>
    Buffer.from(
      encodeProtobuf('logs', {
        resourceLogs: [{ scopeLogs: [{ scope: { name }, logRecords: [{ severityNumber: 9 }] }] }],
      }).bytes,
    );
  const bytes = request('n'.repeat(125 - request('').length));
  expect(bytes.subarray(0, 2).toString()).toBe('\n{');
  using dir = temporaryDirectory();
  const file = join(dir.path, 'logs.binpb');
  writeFileSync(file, bytes);
  const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  try {
    checkFileCommand([file], { signal: 'logs' });
    expect(write).toHaveBeenCalledWith('1 of logs: all of it would arrive as it is.\n');
  } finally {
    write.mockRestore();
  }
});

it('a JSON with several signals is looked at whole, and what is wrong in one is named', () => {
  using dir = temporaryDirectory();
  const file = join(dir.path, 'requests.json');
  const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  try {
    writeFileSync(file, '\ufeff{"resourceLogs":[],"resourceSpans":[{"scopeSpans":[{"spans":[{}]}]}]}');
    checkFileCommand([file], {});
    expect(write).toHaveBeenCalledWith(expect.stringContaining('span_incomplete'));
    expect(process.exitCode).toBe(3);
  } finally {
    process.exitCode = 0;
    write.mockRestore();
  }
  writeFileSync(file, '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"abc"}]}]}]}');
  expect(() => checkFileCommand([file], {})).toThrow(/requests\.json: .*timeUnixNano/);
});

it.skipIf(process.platform === 'win32')('a device that never ends is refused at the size of a file', () => {
  expect(() => checkFileCommand(['/dev/zero'], {})).toThrow(
    '/dev/zero is too large; expected a file of at most 268435456 bytes',
  );
});
