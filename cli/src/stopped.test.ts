import { expect, it } from 'vitest';
import { stoppedText } from './stopped.ts';

it('reports the accounting only if everything has stopped cleanly', () => {
  const clean = { unclean: [], unreached: [] };
  expect(stoppedText(clean)).toEqual({ clean: true, text: 'stopped' });
  expect(stoppedText(clean, { books: { queued: 2, on_disk: 1 } })).toEqual({
    clean: true,
    text: 'Stopped. 2 items in Redis and 1 item on disk wait for the next start.',
  });
  const hung = { unclean: [{ service: 'exporter', message: 'it took longer than 22.5 s' }], unreached: [] };
  expect(stoppedText(hung, { books: { queued: 0, on_disk: 0 } })).toEqual({
    clean: false,
    text: 'Stopped, but the exporter did not stop cleanly (it took longer than 22.5 s). Nothing was waiting.',
  });
  expect(stoppedText({ unclean: [], unreached: ['dlq', 'receiver'] }, { books: undefined })).toEqual({
    clean: false,
    text: 'Stopped. Redis could not be reached, so its contents are unknown; data on disk stays there.',
  });
  expect(stoppedText({ unclean: [], unreached: ['dlq'] })).toEqual({
    clean: false,
    text: 'stopped, but Redis was never reached',
  });
});
