import { describe, expect, it } from 'vitest';
import { crc32c } from './crc32c.ts';

describe('CRC-32C', () => {
  it('yields the values of RFC 3720', () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
    const all = crc32c(Buffer.from('123456789'));
    expect(crc32c(Buffer.from('6789'), 0, 4, crc32c(Buffer.from('12345')))).toBe(all);
  });
});
