import { RE2JS } from 're2js';

/** As in the configuration: a text that must be equal, or a regular expression that must match somewhere. */
export type MatcherOptions = string | { regex: string };

/** Values beyond this are cut before a pattern sees them. */
const VALUE_MAX_CHARS = 1_024;
/** Verdicts that are remembered for each pattern; names in telemetry repeat. */
const REMEMBERED = 4_096;

/**
 * Tells whether a value matches. Patterns run in RE2's linear time, so no pattern and no value can stall the receiver
 * (Cox, "Regular Expression Matching Can Be Simple And Fast"); verdicts are remembered, so that the usual value costs
 * one look-up.
 */
export class Matcher {
  readonly #exact: string | undefined;
  readonly #pattern: RE2JS | undefined;
  readonly #verdicts = new Map<string, boolean>();

  /** @throws when the pattern is invalid */
  constructor(options: MatcherOptions) {
    if (typeof options === 'string') this.#exact = options;
    else this.#pattern = RE2JS.compile(options.regex);
  }

  matches(value: string): boolean {
    if (this.#pattern === undefined) return value === this.#exact;
    const cut = value.length > VALUE_MAX_CHARS ? value.slice(0, VALUE_MAX_CHARS) : value;
    const known = this.#verdicts.get(cut);
    if (known !== undefined) return known;
    const verdict = this.#pattern.matcher(cut).find();
    if (this.#verdicts.size >= REMEMBERED) this.#verdicts.clear(); // values that never repeat are not worth keeping
    this.#verdicts.set(cut, verdict);
    return verdict;
  }
}
