import { parentPort } from 'node:worker_threads';
import { type Division, divided } from './divider.ts';

/** The thread that divides large requests, to keep them off the event loop. */
parentPort!.on('message', async (request: Division) => {
  const parts = await divided(request);
  parentPort!.postMessage(
    parts,
    parts.map(({ bytes }) => bytes.buffer),
  );
});
