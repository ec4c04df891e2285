import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          testTimeout: 60_000,
          include: [
            '{shared,services,cli}/**/*.test.ts',
            'tests/{testbed,fuzz,crash,security,cost}/**/*.test.ts',
          ],
        },
      },
      {
        // Real processes and servers: one file at a time, so that two cores serve each as a user's machine would.
        test: {
          name: 'system',
          include: ['tests/{integration,e2e,faults,docs,bench,senders}/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
      {
        // Containers; skipped, with the reason, where no engine runs.
        test: {
          name: 'docker',
          include: ['tests/docker/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
    ],
    reporters: ['default', './infra/test/closing-line.ts'],
  },
});
