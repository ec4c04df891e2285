/** The Redis that integration tests run against: a process, or a container of the image NRDOT_TEST_REDIS_IMAGE. */
import { freePort, TestRedis, waitUntil } from '@nrdot/testbed';
import { Redis } from 'ioredis';
import type { StartedTestContainer } from 'testcontainers';

export interface RedisServer {
  readonly url: string;
  /** Ends it as a crash would. */
  kill(): Promise<void>;
  /** Starts it again on the same data and port. */
  start(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** @param dir where a process keeps its files; a container keeps them in itself */
export async function startRedis({ dir }: { dir: string }): Promise<RedisServer> {
  const image = process.env.NRDOT_TEST_REDIS_IMAGE;
  return image ? ContainerRedis.start(image) : TestRedis.start({ dir });
}

class ContainerRedis implements RedisServer {
  readonly url: string;
  readonly #container: StartedTestContainer;

  private constructor(container: StartedTestContainer, port: number) {
    this.#container = container;
    this.url = `redis://${container.getHost()}:${port}`;
  }

  static async start(image: string): Promise<ContainerRedis> {
    const { GenericContainer, Wait } = await import('testcontainers');
    const host = await freePort();
    const container = await new GenericContainer(image)
      .withCommand([
        ...[
          image.startsWith('valkey') ? 'valkey-server' : 'redis-server',
          '--protected-mode',
          'no',
          '--save',
          '',
        ],
        ...['--appendonly', 'yes', '--appendfsync', 'always', '--maxmemory-policy', 'noeviction'],
      ])
      .withExposedPorts({ container: 6379, host })
      .withWaitStrategy(Wait.forLogMessage(/Ready to accept connections/))
      .start();
    return new ContainerRedis(container, host);
  }

  async kill(): Promise<void> {
    await (await this.#handle()).kill({ signal: 'SIGKILL' });
    await waitUntil(async () => !(await (await this.#handle()).inspect()).State.Running, {
      what: 'the Redis container ended',
    });
  }

  async start(): Promise<void> {
    await (await this.#handle()).start();
    await waitUntil(() => this.#answers(), { what: 'the Redis container answers', everyMs: 100 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#container.stop({ timeout: 0 });
  }

  async #handle() {
    const { getContainerRuntimeClient } = await import('testcontainers');
    return (await getContainerRuntimeClient()).container.getById(this.#container.getId());
  }

  async #answers(): Promise<boolean> {
    const client = new Redis(this.url, {
      lazyConnect: true,
      retryStrategy: () => null,
      connectTimeout: 1_000,
    });
    client.on('error', () => {});
    try {
      await client.connect();
      return (await client.ping()) === 'PONG';
    } finally {
      client.disconnect();
    }
  }
}
