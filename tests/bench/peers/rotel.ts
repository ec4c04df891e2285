/** Rotel: OTLP/HTTP in and out, in memory. */
import { join } from 'node:path';
import { freePort, Process, waitUntil } from '@nrdot/testbed';
import { running, type System } from '../system.ts';
import type { Peer } from './build.ts';

/** As it is (batches of up to 8,192 items, or what came in 200 ms), and with each request sent on by itself. */
export function rotels(peer: Peer): System[] {
  return [rotel(peer, false), rotel(peer, true)];
}

function rotel({ program, version }: Peer, batching: boolean): System {
  return {
    name: batching ? 'Rotel, batching' : 'Rotel',
    durability: 'in memory',
    version: `Rotel ${version}`,
    start: async (dir, upstream) => {
      const [http, grpc] = [await freePort(), await freePort()];
      const args = [
        ...[
          'start',
          '--otlp-http-endpoint',
          `127.0.0.1:${http}`,
          '--otlp-grpc-endpoint',
          `127.0.0.1:${grpc}`,
        ],
        ...['--exporter', 'otlp', '--otlp-exporter-protocol', 'http', '--otlp-exporter-endpoint', upstream],
        ...['--pid-file', join(dir, 'rotel.pid'), '--log-file', join(dir, 'rotel.log')],
        ...(batching ? [] : ['--disable-batching']),
      ];
      const agent = new Process('rotel', program, args, {}, dir);
      const system = running(`http://127.0.0.1:${http}`, { rotel: agent });
      await waitUntil(
        async () => {
          if (!agent.running) throw new Error(agent.output());
          return (await fetch(system.otlp)).status > 0;
        },
        { what: 'Rotel listens' },
      );
      return system;
    },
  };
}
