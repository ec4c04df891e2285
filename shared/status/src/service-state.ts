import type { PipelineStatus, ServiceLine } from './pipeline-status.ts';

/**
 * What a service does now. A service that cannot use Redis is not idle: receivers pass arriving data to the dlq, which keeps
 * it. The reason why Redis is away is shown once, elsewhere.
 */
export function stateText(
  { service, problem }: Pick<ServiceLine, 'service' | 'problem'>,
  {
    redis,
    dlq,
    services,
  }: Pick<PipelineStatus, 'redis' | 'dlq'> & { services: readonly Pick<ServiceLine, 'service'>[] },
): string {
  const isOnly = services.filter((line) => line.service === service).length === 1;
  if (!problem) return service === 'dlq' && isOnly && dlq && dlq.state !== 'ok' ? 'accepts nothing' : 'ready';
  const isRedis = redis.address !== undefined && problem.startsWith(`Redis at ${redis.address}:`);
  if (!isRedis) return `not ready: ${problem}`;
  const takes = dlq?.state === 'ok';
  if (service === 'receiver' && dlq) return takes ? 'accepts, straight to disk' : 'refuses (503)';
  if (service === 'receiver') return 'accepts if it reaches a dlq';
  if (service === 'dlq') return takes ? 'stores; replay waits for Redis' : 'accepts nothing';
  return 'waits for Redis';
}
