/** Work that costs more than its input grows, each in the way it was once found in the product. */
import { parseDocument } from 'yaml';

export const WORK = {
  'a list that is copied for each of its elements': (n: number) => {
    const parts = new Map<string, number[]>();
    for (let i = 0; i < n; i++) parts.set('a', [...(parts.get('a') ?? []), i]);
  },
  'a buffer that is copied for each of its pieces': (n: number) => {
    let whole = Buffer.alloc(0);
    for (let i = 0; i < n; i++) whole = Buffer.concat([whole, Buffer.from('piece')]);
  },
  'a list that is searched for each of its elements': (n: number) => {
    const list: number[] = [];
    for (let i = 0; i < n; i++) if (!list.includes(i)) list.push(i);
  },
  'keys of YAML that are compared each with each': (n: number) => {
    parseDocument(Array.from({ length: n }, (_, i) => `k${i}: 1`).join('\n'), { uniqueKeys: true });
  },
  'a pattern that begins anew at each character': (n: number) => {
    /["']?[\w.-]*(?:secret|token)[\w-]*["']?\s*[=:]/i.test('token'.repeat(n / 10));
  },
};

export function linear(n: number): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += i;
  return sum;
}
