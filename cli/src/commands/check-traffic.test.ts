import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeProtobuf, temporaryDirectory } from '@nrdot/testbed';
import { expect, it, vi } from 'vitest';
import { checkFileCommand } from './check-traffic.ts';

it('a protobuf request is recognized even if the length of its first resource is the ASCII code of {', async () => {
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
    await checkFileCommand([file], { signal: 'logs' });
    expect(write).toHaveBeenCalledWith('1 of logs: everything would arrive unchanged.\n');
  } finally {
    write.mockRestore();
  }
});

it('JSON with several signals is checked completely, and errors in one are reported', async () => {
  using dir = temporaryDirectory();
  const file = join(dir.path, 'requests.json');
  const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  try {
    writeFileSync(file, '\ufeff{"resourceLogs":[],"resourceSpans":[{"scopeSpans":[{"spans":[{}]}]}]}');
    await checkFileCommand([file], {});
    expect(write).toHaveBeenCalledWith(expect.stringContaining('span_incomplete'));
    expect(process.exitCode).toBe(3);
  } finally {
    process.exitCode = 0;
    write.mockRestore();
  }
  writeFileSync(file, '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"abc"}]}]}]}');
  await expect(checkFileCommand([file], {})).rejects.toThrow(/requests\.json: .*timeUnixNano/);
});

it.skipIf(process.platform === 'win32')('an endless device is refused at the file size limit', async () => {
  await expect(checkFileCommand(['/dev/zero'], {})).rejects.toThrow(
    '/dev/zero is too large; expected a file of at most 268435456 bytes',
  );
});
