import type { Config } from '@nrdot/config';
import { severityEnds } from '@nrdot/config/severity';
import type { Signal } from '@nrdot/otlp';
import { isPriorityClass, type PriorityClass } from '@nrdot/queue/priority-class';
import { Matcher } from './matcher.ts';

export type PriorityOptions = Config['priority'];
type RuleOptions = PriorityOptions['rules'][number];

/** What a rule tests of an item, in addition to its resource. */
export interface ItemTest {
  scope: Matcher | undefined;
  name: Matcher | undefined;
  /** Span status code. */
  status: number | undefined;
  /** Severity numbers, both included. */
  severity: { min: number; max: number } | undefined;
}

export interface Rule {
  class: PriorityClass;
  resource: { attribute: string; matcher: Matcher }[];
  /** Undefined if only the resource is tested. */
  item: ItemTest | undefined;
}

const STATUS_CODES = { unset: 0, ok: 1, error: 2 } as const;

/** The tests that apply to a signal: a rule that tests a span's name says nothing about logs. */
const ASKS: Readonly<Record<Exclude<Signal, 'profiles'>, readonly (keyof RuleOptions)[]>> = {
  traces: ['span', 'status'],
  metrics: ['metric'],
  logs: ['severity'],
};

/** Compiles rules, each once: a pattern takes time and memory. @returns those that can apply to a signal, in order */
export function compileRules(options: PriorityOptions): (signal: Signal) => Rule[] {
  const rules = options.rules.map((rule) => [rule, compile(rule)] as const);
  return (signal) => rules.filter(([rule]) => appliesTo(signal, rule)).map(([, compiled]) => compiled);
}

function appliesTo(signal: Signal, rule: RuleOptions): boolean {
  if (rule.signal !== undefined && rule.signal !== signal) return false;
  const asked = Object.entries(ASKS).filter(([, keys]) => keys.some((key) => rule[key] !== undefined));
  return asked.length === 0 || (asked.length === 1 && asked[0]![0] === signal);
}

function compile(rule: RuleOptions): Rule {
  const name = rule.span ?? rule.metric;
  const asksItem = rule.scope ?? name ?? rule.status ?? rule.severity;
  const { min = 1, max = 24 } = rule.severity ?? {};
  return {
    class: rule.class,
    resource: Object.entries(rule.resource ?? {}).map(([attribute, matcher]) => ({
      attribute,
      matcher: new Matcher(matcher),
    })),
    item:
      asksItem === undefined
        ? undefined
        : {
            scope: rule.scope === undefined ? undefined : new Matcher(rule.scope),
            name: name === undefined ? undefined : new Matcher(name),
            status: rule.status === undefined ? undefined : STATUS_CODES[rule.status],
            severity: rule.severity && { min: severityEnds(min).from, max: severityEnds(max).to },
          },
  };
}

/** The class that a sender names itself, if valid. */
export function namedClass(value: string | undefined): PriorityClass | undefined {
  const name = value?.toLowerCase();
  return isPriorityClass(name) ? name : undefined;
}
