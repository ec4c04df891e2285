import type { Config } from '@nrdot/config';
import { type Address, formatAddress } from '@nrdot/service';
import { causeText } from '@nrdot/telemetry';

/** Explains an address that cannot be listened on: which option it comes from and what to do; other errors stay unchanged. */
export function startError(error: unknown, config: Config, mock?: Address): unknown {
  const { code, port } = error as { code?: string; port?: number };
  if (code !== 'EADDRINUSE' && code !== 'EACCES' && code !== 'EADDRNOTAVAIL') return error;
  const options: [string, Address, string][] = [
    ['receiver.listen', config.receiver.listen, ' (--listen)'],
    ['admin.listen', config.admin.listen, ' (--admin)'],
    ['dlq.listen', config.dlq.listen, ''],
  ];
  const [option, address, flag] =
    options.find(([, listen]) => listen.port === port) ??
    (mock?.port === port ? ['the mock upstream', mock, ''] : []);
  if (!option || !address) return error;
  const reason = code === 'EACCES' ? 'this user may not listen there' : causeText(error);
  const what =
    option === 'the mock upstream'
      ? 'stop it, or set an upstream with --upstream'
      : `${code === 'EADDRINUSE' ? 'stop it, or name' : 'name'} another address in the configuration${flag}`;
  const running = code === 'EADDRINUSE' ? ', perhaps another pipeline (check with "nrdot status")' : '';
  return new Error(`${option}: ${formatAddress(address)}: ${reason}${running}; ${what}`, { cause: error });
}
