/** A real headless Chromium, spoken to in its own protocol: nothing to install beside it. */

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { Process, temporaryDirectory } from './processes.ts';
import { waitUntil } from './wait-until.ts';

const PROGRAMS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** Where a Chromium is; undefined where there is none. */
export function findChromium(): string | undefined {
  return [process.env.CHROMIUM ?? '', ...PROGRAMS].find((program) => program !== '' && existsSync(program));
}

export interface View {
  width: number;
  height: number;
  scheme: 'dark' | 'light';
}

type Listener = (params: Record<string, never>) => void;

/** One tab. */
export class Page {
  /** What the page printed as an error, what it threw, what the browser refused for its sake. */
  readonly errors: string[] = [];
  /** URLs asked for. */
  readonly requests: string[] = [];
  readonly #browser: Browser;
  readonly #session: string;

  private constructor(browser: Browser, session: string) {
    this.#browser = browser;
    this.#session = session;
    const on = (method: string, listener: (params: never) => void) =>
      browser.on(session, method, listener as Listener);
    on('Runtime.exceptionThrown', ({ exceptionDetails: { text, exception } }: Thrown) =>
      this.errors.push(exception?.description ?? text),
    );
    on('Runtime.consoleAPICalled', ({ type, args }: Printed) => {
      if (type === 'error' || type === 'warning')
        this.errors.push(args.map(({ value }) => String(value)).join(' '));
    });
    on('Log.entryAdded', ({ entry: { level, text, url } }: Entry) => {
      if (level === 'error') this.errors.push(`${text} ${url ?? ''}`);
    });
    on('Network.requestWillBeSent', ({ request: { url } }: Asked) => this.requests.push(url));
  }

  static async open(browser: Browser): Promise<Page> {
    const { targetId } = await browser.call<{ targetId: string }>('Target.createTarget', {
      url: 'about:blank',
    });
    const { sessionId } = await browser.call<{ sessionId: string }>('Target.attachToTarget', {
      targetId,
      flatten: true,
    });
    const page = new Page(browser, sessionId);
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await page.#call(`${domain}.enable`);
    return page;
  }

  async view({ width, height, scheme }: View): Promise<void> {
    const mobile = width < 600;
    await this.#call('Emulation.setDeviceMetricsOverride', { width, height, mobile, deviceScaleFactor: 1 });
    await this.#call('Emulation.setEmulatedMedia', {
      features: [{ name: 'prefers-color-scheme', value: scheme }],
    });
  }

  async goto(url: string): Promise<void> {
    await this.#call('Page.navigate', { url });
    await this.until(`document.readyState === 'complete' && location.href !== 'about:blank'`);
  }

  /** The value of an expression in the page, as JSON carries it; promises are waited for. */
  async value<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.#call<Evaluated<T>>('Runtime.evaluate', {
      expression,
      returnByValue: true,
      awaitPromise: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Waits until an expression in the page is true. */
  async until(expression: string, timeoutMs = 30_000): Promise<void> {
    await waitUntil(() => this.value<unknown>(`Boolean(${expression})`), {
      what: `in the page: ${expression}`,
      timeoutMs,
      everyMs: 100,
    });
  }

  text(selector: string): Promise<string> {
    return this.value(`document.querySelector(${JSON.stringify(selector)})?.innerText ?? ''`);
  }

  async click(selector: string): Promise<void> {
    await this.value(`document.querySelector(${JSON.stringify(selector)}).click()`);
  }

  /** Types into what has the focus. */
  async type(text: string): Promise<void> {
    await this.#call('Input.insertText', { text });
  }

  async press(key: 'Tab' | 'Enter' | 'ArrowLeft'): Promise<void> {
    const codes = { Tab: 9, Enter: 13, ArrowLeft: 37 };
    const event = {
      key,
      code: key,
      windowsVirtualKeyCode: codes[key],
      ...(key === 'Enter' ? { text: '\r' } : {}),
    };
    await this.#call('Input.dispatchKeyEvent', { type: 'keyDown', ...event });
    await this.#call('Input.dispatchKeyEvent', { type: 'keyUp', ...event });
  }

  /** A picture of the whole page, or of its upper part. */
  async screenshot(file: string, height?: number): Promise<void> {
    const { cssContentSize } = await this.#call<{ cssContentSize: { width: number; height: number } }>(
      'Page.getLayoutMetrics',
    );
    const { data } = await this.#call<{ data: string }>('Page.captureScreenshot', {
      format: 'png',
      captureBeyondViewport: true,
      clip: { x: 0, y: 0, ...cssContentSize, ...(height ? { height } : {}), scale: 1 },
    });
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, Buffer.from(data, 'base64'));
  }

  #call<T>(method: string, params: object = {}): Promise<T> {
    return this.#browser.call<T>(method, params, this.#session);
  }
}

interface Thrown {
  exceptionDetails: { text: string; exception?: { description?: string } };
}
interface Printed {
  type: string;
  args: { value?: unknown }[];
}
interface Entry {
  entry: { level: string; text: string; url?: string };
}
interface Asked {
  request: { url: string };
}
interface Evaluated<T> extends Partial<Thrown> {
  result: { value: T };
}

export class Browser {
  readonly #process: Process;
  readonly #profile: ReturnType<typeof temporaryDirectory>;
  readonly #socket: WebSocket;
  readonly #calls = new Map<number, { resolve(result: unknown): void; reject(error: Error): void }>();
  readonly #listeners = new Map<string, Listener[]>();
  #lastId = 0;

  private constructor(process: Process, profile: ReturnType<typeof temporaryDirectory>, socket: WebSocket) {
    this.#process = process;
    this.#profile = profile;
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => this.#received(JSON.parse(String(data)) as Message));
    socket.addEventListener('close', () => {
      for (const { reject } of this.#calls.values())
        reject(new Error(`Chromium has gone: ${process.output(5)}`));
    });
  }

  static async start(program: string): Promise<Browser> {
    const profile = temporaryDirectory();
    const process = new Process('chromium', program, [
      ...['--headless=new', '--remote-debugging-port=0', `--user-data-dir=${profile.path}`],
      // In containers and as root the sandbox cannot be had; what it opens is our own.
      ...['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--hide-scrollbars', '--no-first-run'],
      ...['--disable-background-networking', '--disable-component-update', '--disable-sync', '--lang=en-US'],
    ]);
    const [, url = ''] = await process.line(/DevTools listening on (ws:\S+)/);
    const socket = new WebSocket(url);
    await new Promise<void>((resolve, reject) => {
      socket.addEventListener('open', () => resolve());
      socket.addEventListener('error', () => reject(new Error(`Chromium does not answer at ${url}`)));
    });
    return new Browser(process, profile, socket);
  }

  page(): Promise<Page> {
    return Page.open(this);
  }

  call<T>(method: string, params: object = {}, sessionId?: string): Promise<T> {
    const id = ++this.#lastId;
    return new Promise<T>((resolve, reject) => {
      this.#calls.set(id, {
        resolve: resolve as (result: unknown) => void,
        reject: (error) => reject(new Error(`${method}: ${error.message}`)),
      });
      this.#socket.send(JSON.stringify({ id, method, params, ...(sessionId ? { sessionId } : {}) }));
    });
  }

  on(sessionId: string, method: string, listener: Listener): void {
    const key = `${sessionId} ${method}`;
    this.#listeners.set(key, [...(this.#listeners.get(key) ?? []), listener]);
  }

  #received({ id, result, error, method, params, sessionId }: Message): void {
    if (id === undefined) {
      for (const listener of this.#listeners.get(`${sessionId} ${method}`) ?? []) listener(params);
      return;
    }
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    if (error) call?.reject(new Error(error.message));
    else call?.resolve(result);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.call('Browser.close').catch(() => {});
    await this.#process.end('SIGTERM').catch(() => {});
    this.#profile[Symbol.dispose]();
  }
}

interface Message {
  id?: number;
  result?: unknown;
  error?: { message: string };
  method?: string;
  params: Record<string, never>;
  sessionId?: string;
}
