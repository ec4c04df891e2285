import { parentPort } from 'node:worker_threads';
import { ConfigError, type ConfigProblem, readChanges } from '@nrdot/config';

export type ReadChanges = { changes: Record<string, unknown> } | { problems: readonly ConfigProblem[] };

// Of text that is nothing but errors, their stack traces would take most of the time.
Error.stackTraceLimit = 0;

/** The thread that parses YAML from the network, which takes up to some hundred ms for 32 KiB, to keep that off the event loop. */
parentPort!.on('message', ({ text }: { text: string }) => {
  parentPort!.postMessage(answerTo(text));
});

function answerTo(text: string): ReadChanges {
  try {
    return { changes: readChanges(text) };
  } catch (error) {
    if (error instanceof ConfigError) return { problems: error.problems };
    throw error;
  }
}
