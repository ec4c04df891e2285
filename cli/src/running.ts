/** What `nrdot up` says once everything runs; with `--json` as it is here. */
export interface Running {
  event: 'running';
  version: string;
  /** Where to send OTLP/HTTP. */
  otlp: string;
  upstreams: string[];
  /** The upstream is the built-in one, since none is configured. */
  isMock: boolean;
  /** Base URL of console, metrics and health. */
  admin: string;
  data: string;
  /** Of the private Redis. */
  redisSocket?: string;
  /** What is not there yet. */
  waitsFor: string[];
}

export function runningText(running: Running): string {
  const { version, otlp, upstreams, isMock, admin, data, redisSocket, waitsFor } = running;
  const mock = upstreams[0];
  return [
    `NRDOT+ ${version} is running.`,
    '',
    `  send OTLP/HTTP to   ${otlp}   (OTEL_EXPORTER_OTLP_ENDPOINT=${otlp} OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf)`,
    isMock
      ? `  delivered to        ${mock}   the built-in mock upstream: none is configured (--upstream URL, or exporter.endpoint)`
      : `  delivered to        ${upstreams.join(', ')}`,
    `  console             ${admin}/   where the data is, and why it waits`,
    `  metrics and health  ${admin}/metrics  ${admin}/readyz`,
    ...(isMock ? [`  what arrived        ${mock}/_mock/stats`] : []),
    `  data                ${data}`,
    ...(redisSocket ? [`  look into Redis     redis-cli -s ${shellWord(redisSocket)}`] : []),
    ...waitsFor.map((reason) => `  waiting for         ${reason}; what arrives meanwhile goes to disk`),
    '  stop                Ctrl-C; what is queued is kept and goes on at the next start',
    '',
  ].join('\n');
}

/** A path as a shell takes it, whatever is in it. */
function shellWord(path: string): string {
  return /^[\w./~-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
