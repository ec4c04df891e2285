import { defineConfig } from 'vitest/config';

/** Waits in tests may take so many times what they take on a quiet machine: tests/testbed/src/wait-until.ts. */
const env = { NRDOT_TEST_PATIENCE: '4' };

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          env,
          testTimeout: 240_000,
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
          env,
          testTimeout: 720_000,
          hookTimeout: 480_000,
        },
      },
      {
        // Containers; skipped, with the reason, where no engine runs.
        test: {
          name: 'docker',
          include: ['tests/docker/**/*.test.ts'],
          fileParallelism: false,
          env,
          testTimeout: 720_000,
          hookTimeout: 480_000,
        },
      },
      {
        // A cluster; skipped unless tests/kubernetes/run.ts has one.
        test: {
          name: 'kubernetes',
          include: ['tests/kubernetes/**/*.test.ts'],
          fileParallelism: false,
          env,
          testTimeout: 480_000,
          hookTimeout: 480_000,
        },
      },
    ],
    reporters: ['default', './infra/test/closing-line.ts'],
  },
});
