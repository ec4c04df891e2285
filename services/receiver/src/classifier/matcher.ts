import { RE2JS } from 're2js';

/** As configured: a text to be equal to, or a regular expression to match anywhere. */
export type MatcherOptions = string | { regex: string };

/** Longer values are cut before matching. */
const VALUE_MAX_CHARS = 1_024;
/**
 * Size of a pattern's cache of results, in characters of their values; names in telemetry repeat. Longer values do not, and a
 * slice of a long text would keep the whole text in memory, so they are matched every time.
 */
const REMEMBERED_MAX_CHARS = 128 * 1024;
const REMEMBERED_VALUE_MAX_CHARS = 256;
/** Overhead of a cache entry, in characters. */
const ENTRY_CHARS = 32;

/**
 * Matches values against one pattern. Patterns run in linear time (RE2), so that no pattern and no value can stall the receiver
 * (Cox, "Regular Expression Matching Can Be Simple And Fast"). Results are cached, so that a usual value costs one look-up.
 */
export class Matcher {
  readonly #exact: string | undefined;
  readonly #pattern: RE2JS | undefined;
  readonly #verdicts = new Map<string, boolean>();
  #rememberedChars = 0;

  /** @throws when the pattern is invalid */
  constructor(options: MatcherOptions) {
    if (typeof options === 'string') this.#exact = options;
    else this.#pattern = RE2JS.compile(options.regex);
  }

  matches(value: string): boolean {
    if (this.#pattern === undefined) return value === this.#exact;
    if (value.length > REMEMBERED_VALUE_MAX_CHARS)
      return this.#pattern.matcher(value.slice(0, VALUE_MAX_CHARS)).find();
    const known = this.#verdicts.get(value);
    if (known !== undefined) return known;
    const verdict = this.#pattern.matcher(value).find();
    const chars = ENTRY_CHARS + value.length;
    if (this.#rememberedChars + chars > REMEMBERED_MAX_CHARS) {
      this.#verdicts.clear(); // values that never repeat are not worth keeping
      this.#rememberedChars = 0;
    }
    this.#verdicts.set(value, verdict);
    this.#rememberedChars += chars;
    return verdict;
  }
}
