/** The integration tests of queues and scripts, against Redis and Valkey in containers. */
import { describe, it } from 'vitest';
import { hasImage, run, whyNoEngine } from './engine.ts';

const IMAGES = ['redis:7-bookworm', 'valkey/valkey:8-bookworm'];
const SUITES = ['queue', 'priority-table'];

const why = whyNoEngine();
for (const image of IMAGES) {
  const not = why ?? (hasImage(image) ? undefined : `the image ${image} is not here: docker pull ${image}`);
  describe.skipIf(not)(`on ${image}${not ? ` (skipped: ${not})` : ''}`, () => {
    it('the queues and scripts keep their guarantees', async () => {
      await run(
        [process.execPath, 'node_modules/vitest/vitest.mjs', 'run', '--project', 'system'].concat(
          SUITES.map((name) => `tests/integration/${name}.test.ts`),
        ),
        // Containers are stopped by the tests; the reaper would be one more image to have.
        { env: { NRDOT_TEST_REDIS_IMAGE: image, TESTCONTAINERS_RYUK_DISABLED: 'true' } },
      );
    });
  });
}
