import { RE2JS } from 're2js';

/** As in the configuration: a text that must be equal, or a regular expression that must match somewhere. */
export type MatcherOptions = string | { regex: string };

/** Values beyond this are cut before a pattern sees them. */
const VALUE_MAX_CHARS = 1_024;
/**
 * Verdicts that are remembered for each pattern, by what their values take; names in telemetry repeat. Longer values do
 * not, and one cut out of a long text would keep the whole text alive: those are matched each time.
 */
const REMEMBERED_MAX_CHARS = 128 * 1024;
const REMEMBERED_VALUE_MAX_CHARS = 256;
/** What an entry takes beside its characters. */
const ENTRY_CHARS = 32;

/**
 * Tells whether a value matches. Patterns run in RE2's linear time, so no pattern and no value can stall the receiver
 * (Cox, "Regular Expression Matching Can Be Simple And Fast"); verdicts are remembered, so that the usual value costs
 * one look-up.
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
