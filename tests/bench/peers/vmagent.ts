/** vmagent: OTLP metrics in, Prometheus remote write out. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { freePort, Process, waitUntil } from '@nrdot/testbed';
import { running, type System } from '../system.ts';
import type { Peer } from './build.ts';

/**
 * It answers 200 when points are in its memory, and puts them on disk only when the other side does not keep up. It is
 * told to speak Prometheus' own remote write, since the sink reads that.
 */
export function vmagent({ program, version }: Peer): System {
  return {
    name: 'vmagent, remote write out',
    durability: 'in memory',
    version: `vmagent ${version}`,
    signals: ['metrics'],
    start: async (dir, upstream) => {
      const port = await freePort();
      const queue = join(dir, 'queue');
      mkdirSync(queue);
      const args = [
        `-httpListenAddr=127.0.0.1:${port}`,
        `-remoteWrite.url=${upstream}/api/v1/write`,
        '-remoteWrite.forcePromProto',
        `-remoteWrite.tmpDataPath=${queue}`,
      ];
      const process = new Process('vmagent', program, args, {}, dir);
      const base = `http://127.0.0.1:${port}`;
      await waitUntil(
        async () => {
          if (!process.running) throw new Error(process.output());
          return (await fetch(`${base}/health`)).ok;
        },
        { what: 'vmagent listens' },
      );
      return { ...running(`${base}/opentelemetry`, { vmagent: process }), withoutIds: true };
    },
  };
}
