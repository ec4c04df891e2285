/** A release of the chart in a namespace of its own that enforces Pod Security `restricted`, and what can be asked of it. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { complaint, type Judgement, judge, SequenceSet, waitUntil } from '@nrdot/testbed';
import { stringify } from 'yaml';
import type { Accounting } from '../kit.ts';
import { CHART, EXAMPLES, IMAGE, ROOT, run } from './commands.ts';

// biome-ignore lint/suspicious/noExplicitAny: objects of the API server are anything until they are looked at
type Manifest = any;

export const RELEASE = 'nrdot-plus';
const INSTALL_TIMEOUT = '180s';
const LOAD_SECONDS = 900;
/** What the chart's own containers are allowed, and what a pod of these tests is. */
const LOCKED = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'] },
};

export interface Verdict {
  acknowledged: number;
  unknown: number;
  duplicates: number;
}

export class Release {
  readonly namespace = `nrdot-test-${randomBytes(3).toString('hex')}`;
  #loads = 0;

  /** A namespace with the admin token's Secret and a backend that counts. */
  static async prepare(): Promise<Release> {
    const release = new Release();
    const { namespace } = release;
    await run(['kubectl', 'create', 'namespace', namespace]);
    const levels = ['enforce', 'warn'].map((mode) => `pod-security.kubernetes.io/${mode}=restricted`);
    await run(['kubectl', 'label', 'namespace', namespace, ...levels]);
    await release.apply(readFileSync(`${ROOT}infra/helm/collector.yaml`, 'utf8'));
    await release.kubectl('create', 'secret', 'generic', RELEASE, '--from-literal=admin-token=word');
    await release.kubectl('rollout', 'status', 'deployment/collector', '--timeout=120s');
    return release;
  }

  kubectl(...args: string[]): Promise<string> {
    return run(['kubectl', '-n', this.namespace, ...args]);
  }

  helm(...args: string[]): Promise<string> {
    return run(['helm', '-n', this.namespace, ...args]);
  }

  apply(manifests: string): Promise<string> {
    return run(['kubectl', '-n', this.namespace, 'apply', '-f', '-'], { input: manifests });
  }

  async get(kind: string, name?: string): Promise<Manifest> {
    return JSON.parse(await this.kubectl('get', kind, ...(name ? [name] : []), '-o', 'json'));
  }

  /** Installs an example, or upgrades to it, and waits until all of it is ready. */
  async upgrade(example: string, ...more: string[]): Promise<void> {
    const values = ['--values', `${EXAMPLES}/${example}.yaml`, ...more];
    const wait = ['--wait', '--timeout', INSTALL_TIMEOUT];
    await this.helm('upgrade', '--install', RELEASE, CHART, ...values, ...wait);
  }

  /** Pods of a role that are not about to end. */
  async pods(role: string): Promise<Manifest[]> {
    const selector =
      role === 'redis' ? 'app.kubernetes.io/name=nrdot-plus-redis' : `app.kubernetes.io/component=${role}`;
    const all: Manifest[] = JSON.parse(await this.kubectl('get', 'pods', '-l', selector, '-o', 'json')).items;
    return all.filter((pod) => !pod.metadata.deletionTimestamp);
  }

  async ready(role: string, count: number): Promise<Manifest[]> {
    return waitUntil(
      async () => {
        const pods = (await this.pods(role)).filter(({ status }) =>
          status.conditions?.some((c: Manifest) => c.type === 'Ready' && c.status === 'True'),
        );
        return pods.length === count ? pods : undefined;
      },
      { what: `${count} pods of ${role} are ready`, timeoutMs: 120_000, everyMs: 500 },
    );
  }

  async scale(role: string, replicas: number): Promise<void> {
    await this.kubectl('scale', workload(role), `--replicas=${replicas}`);
    if (replicas > 0) await this.ready(role, replicas);
    else
      await waitUntil(async () => (await this.pods(role)).length === 0, {
        what: `no pod of ${role} is left`,
        timeoutMs: 60_000,
        everyMs: 500,
      });
  }

  /** Ends a pod of a role at once, without its leave, and waits for another one in its place. */
  async kill(role: string): Promise<void> {
    const before = await this.pods(role);
    const { name, uid } = before[0].metadata;
    await this.kubectl('delete', 'pod', name, '--grace-period=0', '--force', '--wait=false');
    await waitUntil(
      async () => {
        const now = await this.ready(role, before.length);
        return now.every((pod: Manifest) => pod.metadata.uid !== uid);
      },
      { what: `another pod has replaced ${name}`, timeoutMs: 120_000, everyMs: 500 },
    );
  }

  /** Asks over HTTP from within a pod. */
  ask(target: string, port: number, path: string, method = 'GET'): Promise<string> {
    return this.kubectl('exec', target, '--', 'ask', method, String(port), path);
  }

  mock(path: string, method = 'GET'): Promise<string> {
    return this.ask('deployment/collector', 4318, `/_mock/${path}`, method);
  }

  async books(): Promise<Accounting> {
    const text = await this.ask(`deployment/${RELEASE}-scheduler`, 8888, '/api/scheduler');
    return (JSON.parse(text) as { accounting: Accounting }).accounting;
  }

  /** Waits until nothing is in flight any more and the books balance. */
  async quiet(): Promise<Accounting> {
    let last: Accounting | undefined;
    return waitUntil(
      async () => {
        last = await this.books();
        return last.queued === 0 && last.on_disk === 0 && last.difference === 0 ? last : undefined;
      },
      { what: 'nothing is queued or on disk and the books balance', timeoutMs: 120_000, everyMs: 500 },
    ).catch((error: Error) => {
      throw new Error(`${error.message}: ${JSON.stringify(last)}`);
    });
  }

  /** A load in a pod, through the Service, until it is told to end. */
  async load({ rate = 1_000 } = {}): Promise<Load> {
    const name = `load-${++this.#loads}`;
    // The backend counts them over all loads.
    const before = await this.duplicates();
    const generate = ['generate', '--endpoint', `http://${RELEASE}:4318`, '--json', '--rate', String(rate)];
    await this.apply(
      stringify({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name },
        spec: {
          restartPolicy: 'Never',
          automountServiceAccountToken: false,
          securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
          containers: [
            {
              name: 'load',
              image: IMAGE,
              args: [
                ...generate,
                ...['--batch', '50', '--connections', '8', '--duration', `${LOAD_SECONDS}s`],
                ...['--signals', 'traces=2,metrics=1,logs=1', '--classes', 'critical,high,normal'],
              ],
              securityContext: LOCKED,
            },
          ],
        },
      }),
    );
    const load = new Load(this, name, before);
    await load.more(1_000);
    return load;
  }

  /** What of a run has arrived at the backend. */
  async received(runId: number): Promise<SequenceSet> {
    const { ranges } = JSON.parse(await this.mock(`received?run=${runId}`)) as { ranges: number[] };
    return SequenceSet.fromFlat(ranges);
  }

  async duplicates(): Promise<number> {
    return (JSON.parse(await this.mock('stats')) as { duplicates: number }).duplicates;
  }

  /** What there is of an object's kind, by name. */
  async names(kind: string): Promise<string[]> {
    const { items } = (await this.get(kind)) as { items: Manifest[] };
    return items.map(({ metadata }) => metadata.name).sort();
  }

  /** What went wrong, for whoever reads a failure. */
  async troubles(): Promise<string> {
    const parts = await Promise.all([
      this.kubectl('get', 'pods', '-o', 'wide').catch(String),
      this.kubectl('get', 'events', '--sort-by=.lastTimestamp').catch(String),
      this.kubectl(
        'logs',
        '-l',
        `app.kubernetes.io/instance=${RELEASE}`,
        '--all-containers',
        '--tail=8',
      ).catch(String),
    ]);
    return parts.map((part) => part.slice(-6_000)).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run(['kubectl', 'delete', 'namespace', this.namespace, '--timeout=120s']);
  }
}

export function workload(role: string): string {
  return `${role === 'dlq' || role === 'redis' ? 'statefulset' : 'deployment'}/${RELEASE}-${role}`;
}

interface Report {
  run: number;
  acknowledgedItems: number;
  unknownItems: number;
  acknowledged: number[];
  partial: number[];
  refused: number[];
  unknown: number[];
}

export class Load {
  readonly #release: Release;
  readonly #pod: string;
  readonly #duplicatesBefore: number;

  constructor(release: Release, pod: string, duplicatesBefore: number) {
    this.#release = release;
    this.#pod = pod;
    this.#duplicatesBefore = duplicatesBefore;
  }

  async #acknowledged(): Promise<number> {
    const line = await this.#release.kubectl('logs', this.#pod, '--tail=1');
    return Number(/acknowledged (\d+)/.exec(line)?.[1] ?? 0);
  }

  /** Waits until some more has been acknowledged. */
  async more(items: number): Promise<void> {
    const before = await this.#acknowledged().catch(() => 0);
    await waitUntil(async () => (await this.#acknowledged()) >= before + items, {
      what: `${items} more items are acknowledged`,
      timeoutMs: 120_000,
      everyMs: 500,
    });
  }

  /** Ends it. @returns what became of its items, as it saw it */
  async stop(): Promise<Report> {
    const release = this.#release;
    await release.kubectl('exec', this.#pod, '--', 'bash', '-c', 'kill -INT 1');
    await waitUntil(async () => /Succeeded|Failed/.test((await release.get('pod', this.#pod)).status.phase), {
      what: `${this.#pod} has ended`,
      timeoutMs: 90_000,
      everyMs: 500,
    });
    const log = await release.kubectl('logs', this.#pod);
    // Its report stands among the lines of progress, which are on the other stream.
    const from = log.indexOf('\n{\n') + 1;
    return JSON.parse(log.slice(from, log.indexOf('\n}\n', from) + 2)) as Report;
  }

  /** Waits until the pipeline is quiet, and compares by ids what was acknowledged with what has arrived. */
  async judge(report: Report): Promise<Judgement & Pick<Accounting, 'accepted' | 'dropped'>> {
    const release = this.#release;
    const { accepted, dropped } = await release.quiet();
    const set = (ranges: number[]) => SequenceSet.fromFlat(ranges);
    const obligations = {
      acknowledged: set(report.acknowledged),
      partial: set(report.partial),
      refused: set(report.refused),
      unknown: set(report.unknown),
    };
    return { ...judge(obligations, await release.received(report.run)), accepted, dropped };
  }

  /** Ends it and judges. @throws Error that says what was acknowledged and has not arrived, or arrived and was not taken */
  async verdict(what: string): Promise<Verdict> {
    const report = await this.stop();
    const { accepted: _, dropped, ...judgement } = await this.judge(report);
    const wrong = complaint(judgement);
    if (wrong) throw new Error(`${what}: ${wrong} (${dropped} dropped by the books)`);
    const verdict = {
      acknowledged: report.acknowledgedItems,
      unknown: report.unknownItems,
      duplicates: (await this.#release.duplicates()) - this.#duplicatesBefore,
    };
    console.log(
      `${what}: ${verdict.acknowledged} acknowledged, all arrived; ${verdict.duplicates} twice, ${verdict.unknown} without an answer`,
    );
    return verdict;
  }
}
