/**
 * What New Relic drops, prunes or shortens although it answers 200, and the limits. The numbers are from its documentation;
 * docs/new-relic.md lists the pages.
 */
export const LIMITS = {
  nameChars: 255,
  valueChars: 4_095,
  arrayEntries: 64,
  bytesValue: 128_000,
  attributesOf: { resource: 64, scope: 8, point: 64, span: 254, log: 255 },
  metricPastMs: 48 * 3_600_000,
  metricAheadMs: 24 * 3_600_000,
  logPastMs: 48 * 3_600_000,
} as const;

/** The kind of message that has the attributes. */
export type Owner = keyof typeof LIMITS.attributesOf;

/** The whole item is missing; a part of it is missing; a part of it is cut to a length. */
export type Effect = 'dropped' | 'pruned' | 'shortened';

/** In order of display: the most severe first. */
export const CHECK_RULES = {
  metric_too_old: { effect: 'dropped', what: 'a point older than 48 h' },
  metric_too_new: { effect: 'dropped', what: 'a point more than 24 h ahead' },
  log_too_old: { effect: 'dropped', what: 'a log record older than 48 h' },
  not_finite: { effect: 'dropped', what: 'a point that is NaN or infinite' },
  delta_level: { effect: 'dropped', what: 'a delta sum that may fall' },
  span_incomplete: { effect: 'dropped', what: 'a span without trace id, span id or start' },
  attribute_type: { effect: 'pruned', what: 'a map, or a nested or mixed array' },
  attribute_array: { effect: 'pruned', what: 'an array of more than 64 entries' },
  attribute_bytes: { effect: 'pruned', what: 'bytes of more than 128 kB' },
  attribute_named_as_metric: { effect: 'pruned', what: "an attribute with the metric's name" },
  attributes_too_many: { effect: 'pruned', what: 'more attributes than are kept' },
  exemplar: { effect: 'pruned', what: 'exemplars' },
  span_link: { effect: 'pruned', what: 'span links' },
  attribute_name: { effect: 'shortened', what: 'a name of more than 255 characters' },
  attribute_value: { effect: 'shortened', what: 'a text of more than 4,095 characters' },
} as const satisfies Record<string, { effect: Effect; what: string }>;

export type CheckRule = keyof typeof CHECK_RULES;
export const CHECK_RULE_NAMES = Object.keys(CHECK_RULES) as CheckRule[];
/** Bit of a rule in a set of rules. */
export const BIT = Object.fromEntries(CHECK_RULE_NAMES.map((rule, place) => [rule, 1 << place])) as Record<
  CheckRule,
  number
>;

/** Attributes, exemplars, value and sum by field number: of a point, by the field that its metric has its data in. */
export const POINTS: Readonly<
  Record<number, { attributes: number; exemplars: number; value: number; sum: number }>
> = {
  5: { attributes: 7, exemplars: 5, value: 4, sum: 0 },
  7: { attributes: 7, exemplars: 5, value: 4, sum: 0 },
  9: { attributes: 9, exemplars: 8, value: 0, sum: 5 },
  10: { attributes: 1, exemplars: 11, value: 0, sum: 5 },
  11: { attributes: 7, exemplars: 0, value: 0, sum: 5 },
};
