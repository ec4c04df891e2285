/** A task of which one run is in flight at a time. */
export interface OneRun {
  /** Starts a run, or waits for the one in flight. */
  (): Promise<void>;
  /** The run in flight, if there is one. */
  readonly current: Promise<void> | undefined;
}

export function oneRun(run: () => Promise<void>): OneRun {
  let current: Promise<void> | undefined;
  const start = () => {
    current ??= run().finally(() => {
      current = undefined;
    });
    return current;
  };
  return Object.defineProperty(start, 'current', { get: () => current }) as OneRun;
}
