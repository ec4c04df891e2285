import { Worker } from 'node:worker_threads';

const IDLE_MS = 30_000;

interface Asked {
  request: object;
  transfer: readonly ArrayBuffer[];
  resolve(answer: never): void;
  reject(error: unknown): void;
}

export interface ThreadOptions<Request> {
  /** After such a request the thread is replaced, since its heap and its allocator keep what that took. */
  isHeavy?(request: Request): boolean;
  /** Its answers depend on earlier requests, so it is not ended when idle. */
  keepsState?: boolean;
  /** Time limit of a request, and the error after it. */
  deadlineMs?: number;
  tooSlow?(): Error;
}

/**
 * A thread that answers one request after the other. It starts with the first one, ends when idle, and is replaced if it fails or
 * takes too long, which affects only the request that it was at.
 */
export class Thread<Request extends object, Answer> {
  readonly #script: URL;
  readonly #options: ThreadOptions<Request>;
  readonly #waiting: Asked[] = [];
  #current: Asked | undefined;
  #worker: Worker | undefined;
  /** It has had a heavy request. */
  #isWorn = false;
  #idle: NodeJS.Timeout | undefined;
  #deadline: NodeJS.Timeout | undefined;

  constructor(script: URL, options: ThreadOptions<Request> = {}) {
    this.#script = script;
    this.#options = options;
  }

  /** @throws what the thread has thrown, or `tooSlow` */
  ask(request: Request, transfer: readonly ArrayBuffer[]): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ request, transfer, resolve, reject });
      this.#takeNext();
    });
  }

  async stop(): Promise<void> {
    clearTimeout(this.#idle);
    clearTimeout(this.#deadline);
    await this.#worker?.terminate();
  }

  #takeNext(): void {
    if (this.#current) return;
    this.#current = this.#waiting.shift();
    clearTimeout(this.#idle);
    if (!this.#current) {
      if (!this.#options.keepsState) this.#idle = setTimeout(() => this.#endThread(), IDLE_MS).unref();
      return;
    }
    const { deadlineMs, tooSlow, isHeavy } = this.#options;
    if (deadlineMs !== undefined)
      this.#deadline = setTimeout(() => {
        this.#endThread();
        this.#end(({ reject }) => reject(tooSlow?.()));
      }, deadlineMs);
    const worker = (this.#worker ??= this.#start());
    const { request, transfer } = this.#current;
    this.#isWorn ||= isHeavy?.(request as Request) ?? false;
    worker.postMessage(request, transfer);
  }

  #start(): Worker {
    this.#isWorn = false;
    const worker = new Worker(this.#script);
    worker.unref();
    worker.on('message', (answer) => {
      if (this.#worker !== worker) return;
      if (this.#isWorn) this.#endThread();
      this.#end(({ resolve }) => resolve(answer as never));
    });
    // An uncaught error or out of memory: no other request is affected.
    worker.on('error', (error) => {
      if (this.#worker !== worker) return;
      this.#worker = undefined;
      this.#end(({ reject }) => reject(error));
    });
    return worker;
  }

  #endThread(): void {
    const worker = this.#worker;
    this.#worker = undefined;
    void worker?.terminate();
  }

  /** Answers the current request and starts the next one. */
  #end(answer: (asked: Asked) => void): void {
    clearTimeout(this.#deadline);
    const ended = this.#current;
    this.#current = undefined;
    if (ended) answer(ended);
    this.#takeNext();
  }
}

/** A thread's script beside the module at `url`; in the bundle it is JavaScript, in the same directory as its chunk. */
export function threadScript(name: string, url: string): URL {
  return new URL(`./${name}.${url.endsWith('.ts') ? 'ts' : 'js'}`, url);
}
