import { FieldCursor, type Signal } from '@nrdot/otlp';
import type { PriorityClass } from '@nrdot/queue/priority-class';
import { Parts } from './parts.ts';
import { findMessage, readAttributes, readEnum, readString } from './read.ts';
import { compileRules, type ItemTest, namedClass, type PriorityOptions, type Rule } from './rules.ts';

/** The part of a request that has one class. `body` is undefined if that is the whole request, unchanged. */
export interface Classified {
  class: PriorityClass;
  body: Buffer | undefined;
}

/** The rules' result for one resource. */
type Verdict = PriorityClass | { rules: readonly Rule[]; otherwise: PriorityClass };

// Field numbers, the same for traces, metrics and logs.
const RESOURCES = 1;
const RESOURCE = 1;
const SCOPES = 2;
const SCOPE = 1;
const ITEMS = 2;
const SCOPE_NAME = 1;

/** Fields of an item that rules may test: the numbers of its name, its status, its severity. */
const NAME_FIELD: Readonly<Record<string, number>> = { traces: 5, metrics: 1 };
const SPAN_STATUS = 15;
const STATUS_CODE = 3;
const SEVERITY_NUMBER = 2;

/** Maximum number of resources that are remembered; a sender's resource is the same in every request. */
const REMEMBERED = 1_024;
const REMEMBERED_MAX_BYTES = 4_096;
const ALIKE_MAX = 8;

interface Remembered {
  bytes: Buffer;
  verdict: Verdict;
  /** The one that followed it last time: senders keep their order. */
  follower: Remembered | undefined;
}

/** Shared results for requests of a single class. */
const untouched = (name: PriorityClass): Classified[] => [{ class: name, body: undefined }];
const UNTOUCHED = {
  critical: untouched('critical'),
  high: untouched('high'),
  normal: untouched('normal'),
} as const;

/**
 * Decides the class of a request, once. A request of one class stays unchanged; others are split by resource, and by item if
 * rules test items. Bytes are copied, not decoded.
 */
export class Classifier {
  readonly options: PriorityOptions;
  readonly #otherwise: PriorityClass;
  readonly #bySignal: Readonly<Record<Exclude<Signal, 'profiles'>, SignalClassifier>>;

  /** @throws when a pattern is invalid */
  constructor(options: PriorityOptions) {
    this.options = options;
    this.#otherwise = options.defaultClass;
    const rulesFor = compileRules(options);
    const of = (signal: Signal) => new SignalClassifier(signal, rulesFor(signal), options);
    this.#bySignal = { traces: of('traces'), metrics: of('metrics'), logs: of('logs') };
  }

  /** @param body valid protobuf */
  classify(signal: Signal, body: Buffer): Classified[] {
    if (signal === 'profiles') return UNTOUCHED[this.#otherwise];
    return this.#bySignal[signal].classify(body);
  }

  /** Whether the class of an item may depend on itself or its scope, so that each is read. */
  readsItems(signal: Signal): boolean {
    return signal !== 'profiles' && this.#bySignal[signal].readsItems;
  }
}

class SignalClassifier {
  readonly readsItems: boolean;
  readonly #rules: readonly Rule[];
  readonly #otherwise: PriorityClass;
  readonly #attribute: string;
  readonly #wanted: ReadonlySet<string>;
  readonly #nameField: number;
  /** By fingerprint; resources with the same one are in a list. */
  readonly #remembered = new Map<number, Remembered[]>();
  #rememberedCount = 0;
  #last: Remembered | undefined;
  readonly #request = new FieldCursor();

  constructor(signal: Signal, rules: readonly Rule[], options: PriorityOptions) {
    this.#rules = rules;
    this.readsItems = rules.some(({ item }) => item !== undefined);
    this.#otherwise = options.defaultClass;
    this.#attribute = options.resourceAttribute;
    const tested = rules.flatMap(({ resource }) => resource.map(({ attribute }) => attribute));
    this.#wanted = new Set([this.#attribute, ...tested]);
    this.#nameField = NAME_FIELD[signal] ?? 0;
  }

  classify(body: Buffer): Classified[] {
    let only: PriorityClass | undefined;
    let mixed = false;
    const request = this.#request.reset(body, 0, body.byteLength);
    while (request.find(RESOURCES)) {
      const found = this.#classOf(body, request.start, request.end);
      if (found === undefined) continue; // no items in it
      if (found === 'several' || (only !== undefined && found !== only)) {
        mixed = true;
        break;
      }
      only = found;
    }
    if (!mixed) return UNTOUCHED[only ?? this.#otherwise];
    return this.#cut(body);
  }

  /** The class of everything in a resource, if there is only one. */
  #classOf(body: Buffer, start: number, end: number): PriorityClass | 'several' | undefined {
    const verdict = this.#judge(body, start, end);
    if (typeof verdict === 'string') return verdict;
    let only: PriorityClass | undefined;
    const several = !this.#eachItem(body, start, end, verdict, (itemClass) => {
      only ??= itemClass;
      return itemClass === only;
    });
    return several ? 'several' : only;
  }

  #judge(request: Buffer, start: number, end: number): Verdict {
    const resource = findMessage(request, start, end, RESOURCE);
    const { body, start: from, end: to } = resource ?? { body: request, start: 0, end: 0 };
    // Usually it is the same as in the previous request, or the one that followed it last time.
    const last = this.#last;
    if (last !== undefined) {
      if (isSame(last, body, from, to)) return last.verdict;
      const { follower } = last;
      if (follower !== undefined && isSame(follower, body, from, to)) {
        this.#last = follower;
        return follower.verdict;
      }
    }
    if (to - from > REMEMBERED_MAX_BYTES) return this.#decide(body, from, to);
    const key = fingerprint(body, from, to);
    const alike = this.#remembered.get(key) ?? [];
    let known = alike.find((candidate) => isSame(candidate, body, from, to));
    if (known === undefined) {
      known = {
        bytes: Buffer.from(body.subarray(from, to)),
        verdict: this.#decide(body, from, to),
        follower: undefined,
      };
      if (this.#rememberedCount++ >= REMEMBERED) this.#forget();
      this.#remembered.set(key, [...alike.slice(-ALIKE_MAX + 1), known]);
    }
    if (last !== undefined) last.follower = known;
    this.#last = known;
    return known.verdict;
  }

  #forget(): void {
    this.#remembered.clear();
    this.#rememberedCount = 1;
  }

  #decide(body: Buffer, start: number, end: number): Verdict {
    const attributes = readAttributes(body, start, end, this.#wanted);
    const named = namedClass(attributes.get(this.#attribute));
    if (named !== undefined) return named;
    const open: Rule[] = [];
    for (const rule of this.#rules) {
      const holds = rule.resource.every(({ attribute, matcher }) => {
        const value = attributes.get(attribute);
        return value !== undefined && matcher.matches(value);
      });
      if (!holds) continue;
      if (rule.item === undefined)
        return open.length === 0 ? rule.class : { rules: open, otherwise: rule.class };
      open.push(rule);
    }
    return open.length === 0 ? this.#otherwise : { rules: open, otherwise: this.#otherwise };
  }

  /** Calls `take` with each item's class until it returns false. @returns whether it never did */
  #eachItem(
    body: Buffer,
    start: number,
    end: number,
    verdict: Exclude<Verdict, string>,
    take: (itemClass: PriorityClass) => boolean,
  ): boolean {
    const scopes = new FieldCursor(body, start, end);
    const items = new FieldCursor();
    while (scopes.find(SCOPES)) {
      let rules: readonly Rule[] | undefined; // there may be very many scopes without items
      items.reset(body, scopes.start, scopes.end);
      while (items.find(ITEMS)) {
        rules ??= this.#scopeRules(body, scopes.start, scopes.end, verdict.rules);
        if (!take(this.#itemClass(body, items.start, items.end, rules, verdict.otherwise))) return false;
      }
    }
    return true;
  }

  #scopeRules(body: Buffer, start: number, end: number, rules: readonly Rule[]): readonly Rule[] {
    if (rules.every((rule) => rule.item?.scope === undefined)) return rules;
    const scope = findMessage(body, start, end, SCOPE);
    const name = scope ? readString(scope.body, scope.start, scope.end, SCOPE_NAME) : '';
    return rules.filter((rule) => rule.item?.scope === undefined || rule.item.scope.matches(name));
  }

  #itemClass(
    body: Buffer,
    start: number,
    end: number,
    rules: readonly Rule[],
    otherwise: PriorityClass,
  ): PriorityClass {
    for (const rule of rules) {
      if (rule.item === undefined || this.#holds(body, start, end, rule.item)) return rule.class;
    }
    return otherwise;
  }

  #holds(body: Buffer, start: number, end: number, { name, status, severity }: ItemTest): boolean {
    if (name !== undefined && !name.matches(readString(body, start, end, this.#nameField))) return false;
    if (status !== undefined) {
      const message = findMessage(body, start, end, SPAN_STATUS);
      const code = message ? readEnum(message.body, message.start, message.end, STATUS_CODE) : 0;
      if (code !== status) return false;
    }
    if (severity !== undefined) {
      const number = readEnum(body, start, end, SEVERITY_NUMBER);
      if (number < severity.min || number > severity.max) return false;
    }
    return true;
  }

  #cut(body: Buffer): Classified[] {
    const parts = new Parts(body);
    const request = new FieldCursor(body);
    while (request.find(RESOURCES)) {
      const found = this.#classOf(body, request.start, request.end);
      if (found === 'several') this.#cutResource(body, request, parts);
      else if (found !== undefined) parts.add(found, request);
    }
    return parts.end(RESOURCES);
  }

  #cutResource(body: Buffer, resource: FieldCursor, parts: Parts): void {
    const verdict = this.#judge(body, resource.start, resource.end) as Exclude<Verdict, string>;
    parts.enter(RESOURCES, resource, SCOPES);
    const scopes = new FieldCursor(body, resource.start, resource.end);
    const items = new FieldCursor();
    while (scopes.find(SCOPES)) {
      parts.enter(SCOPES, scopes, ITEMS);
      let rules: readonly Rule[] | undefined;
      items.reset(body, scopes.start, scopes.end);
      while (items.find(ITEMS)) {
        rules ??= this.#scopeRules(body, scopes.start, scopes.end, verdict.rules);
        parts.add(this.#itemClass(body, items.start, items.end, rules, verdict.otherwise), items);
      }
      parts.leave();
    }
    parts.leave();
  }
}

function isSame({ bytes }: Remembered, body: Buffer, start: number, end: number): boolean {
  return bytes.byteLength === end - start && bytes.compare(body, start, end) === 0;
}

/** A hash to find the remembered resource; equality is then checked on the bytes. */
function fingerprint(body: Buffer, start: number, end: number): number {
  let hash = end - start;
  const step = Math.max(1, (end - start) >>> 4);
  for (let at = start; at < end; at += step) hash = Math.imul(hash ^ body[at]!, 0x01000193);
  return hash;
}
