/** The receiver's HTTP server in this process: what it is handed is kept in a list. */
import type { Batch, EnqueueResult } from '@nrdot/queue';
import { createLogger, MetricsRegistry } from '@nrdot/telemetry';
import { Receiver, type ReceiverOptions } from '../../services/receiver/src/server.ts';

export interface Kept {
  url: string;
  port: number;
  batches: Batch[];
  stop(): Promise<void>;
}

/** @param result what becomes of each batch */
export async function startReceiver(
  options: Partial<ReceiverOptions> = {},
  result: EnqueueResult | Promise<EnqueueResult> = 'queued',
): Promise<Kept> {
  const batches: Batch[] = [];
  const receiver = new Receiver(
    {
      listen: { host: '127.0.0.1', port: 0 },
      maxHeaderBytes: 16_384,
      maxBodyBytes: 100_000,
      maxDepth: 64,
      maxInflightBytes: 1_000_000,
      maxConnections: 1_000,
      invalidUtf8: 'reject_item',
      pathPrefix: '',
      requestTimeoutMs: 5_000,
      keepAliveMs: 5_000,
      cors: { allowedOrigins: [], allowedHeaders: [], allowCredentials: false, maxAgeMs: 60_000 },
      tokens: [],
      tls: {},
      ...options,
    },
    {
      log: createLogger({ level: 'silent', format: 'json' }),
      metrics: new MetricsRegistry(['receiver']).metrics,
      enqueue: async (all) => {
        batches.push(...all);
        const each = await result;
        return all.map(() => each);
      },
      store: undefined,
      limit: undefined,
      classify: () => [{ class: 'normal', body: undefined }],
      now: Date.now,
    },
  );
  const { port } = await receiver.start();
  return { url: `http://127.0.0.1:${port}`, port, batches, stop: () => receiver.stop(100) };
}

export const SPAN = '{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"x"}]}]}]}';

export function post(url: string, headers: Record<string, string> = {}, body = SPAN, path = '/v1/traces') {
  return fetch(url + path, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...headers },
  });
}
