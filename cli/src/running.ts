/** What `nrdot up` prints once everything runs; with `--json` in this form. */
export interface Running {
  event: 'running';
  version: string;
  /** Where to send OTLP/HTTP. */
  otlp: string;
  upstreams: string[];
  /** No upstream is configured, so the built-in one is used. */
  isMock: boolean;
  /** Base URL of console, metrics and health. */
  admin: string;
  data: string;
  /** Socket of the private Redis. */
  redisSocket?: string;
  /** What is not available yet. */
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
    ...(isMock ? [`  mock statistics     ${mock}/_mock/stats`] : []),
    `  data                ${data}`,
    ...(redisSocket ? [`  inspect Redis       redis-cli -s ${shellWord(redisSocket)}`] : []),
    ...waitsFor.map((reason) => `  waiting for         ${reason}; new data goes to disk meanwhile`),
    '  stop                Ctrl-C; queued data is kept and delivered after the next start',
    '',
  ].join('\n');
}

/** A path, quoted for a shell. */
function shellWord(path: string): string {
  return /^[\w./~-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
