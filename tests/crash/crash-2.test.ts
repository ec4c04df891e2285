/** The second half of the schedules. */
import { describe, vi } from 'vitest';
import { nothingIsLost } from './half.ts';

vi.mock('@mongodb-js/zstd', () => import('./zstd.ts'));

describe('any process that dies between any two steps', () => {
  nothingIsLost(2);
});
