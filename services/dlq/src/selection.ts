import { CLASSES, isPriorityClass, type PriorityClass } from '@nrdot/queue';
import { AREAS, type Area, type Envelope, type Period } from '@nrdot/segment-log';
import { AdminError } from '@nrdot/service';

/** The batches that an admin request is about. */
export interface Selection extends Period {
  areas: readonly Area[];
  /** Class of the batches; undefined for every class. Narrows the rejected area, which has all classes. */
  class: PriorityClass | undefined;
}

/** Areas that replay by themselves: all but the rejected one. */
export const REPLAY_AREAS: readonly Area[] = CLASSES;

const NAMES = ['class', 'rejected', 'area', 'since', 'until'];

/**
 * Parses `class`, `rejected`, `area`, `since` and `until` of an admin request.
 * @param otherwise the areas if the request names none
 * @param beside other names that the request may have; an unknown one is an error, since ignoring it could select too much
 * @throws AdminError 400 that says what was expected
 */
export function selectionOf(
  asked: Record<string, unknown>,
  otherwise: readonly Area[],
  beside: readonly string[] = [],
): Selection {
  const names = [...NAMES, ...beside];
  const stranger = Object.keys(asked).find((name) => !names.includes(name));
  if (stranger !== undefined)
    throw badRequest(`unknown parameter "${text(stranger)}"; expected ${names.join(', ')}`);
  const { class: ofClass } = asked;
  if (ofClass !== undefined && !isPriorityClass(ofClass))
    throw badRequest(`class: "${text(ofClass)}" is unknown; expected one of ${CLASSES.join(', ')}`);
  const rejected = truth('rejected', asked.rejected) || asked.area === 'rejected';
  const since = time('since', asked.since) ?? 0;
  const until = time('until', asked.until) ?? Number.MAX_SAFE_INTEGER;
  if (since > until) throw badRequest('since is after until; expected it before');
  if (asked.area !== undefined && asked.area !== (rejected ? 'rejected' : (ofClass ?? asked.area)))
    throw badRequest(`area: "${text(asked.area)}" contradicts class or rejected; expected only one of them`);
  const areas = rejected
    ? (['rejected'] as const)
    : asked.area !== undefined
      ? [areaOf(asked.area)]
      : ofClass !== undefined
        ? [ofClass]
        : otherwise;
  return { areas, class: rejected ? ofClass : undefined, since, until };
}

export function isSelected(selection: Selection, { receivedAt, class: ofClass }: Envelope): boolean {
  const { since, until, class: wanted } = selection;
  return receivedAt >= since && receivedAt <= until && (wanted === undefined || ofClass === wanted);
}

/** @throws AdminError 400 for any other name, so that nothing else can become part of a path */
export function areaOf(name: unknown): Area {
  const area = AREAS.find((known) => known === name);
  if (!area) throw badRequest(`"${text(name)}" is not an area; expected one of ${AREAS.join(', ')}`);
  return area;
}

/** True for `true` and for a name without a value, as in `?rejected`. */
export function truth(name: string, value: unknown): boolean {
  if (value === undefined || value === false || value === 'false') return false;
  if (value === true || value === 'true' || value === '') return true;
  throw badRequest(`${name}: "${text(value)}" is not a boolean; expected true or false`);
}

export function badRequest(message: string): AdminError {
  return new AdminError(400, 'bad_request', message);
}

/** A value from a request, cut to what an error message should repeat. */
function text(value: unknown): string {
  return (typeof value === 'string' ? value : JSON.stringify(value)).slice(0, 80);
}

/** A whole number, as a JSON number or in digits. @returns undefined for anything else */
export function wholeNumber(value: unknown): number | undefined {
  const number = typeof value === 'string' && /^\d{1,16}$/.test(value) ? Number(value) : value;
  return typeof number === 'number' && Number.isSafeInteger(number) && number >= 0 ? number : undefined;
}

/** A time as Unix ms or as ISO 8601. */
function time(name: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  const isDate = typeof value === 'string' && /^\d{4}-\d\d/.test(value);
  const ms = isDate ? Date.parse(value) : (wholeNumber(value) ?? Number.NaN);
  // `Date` takes 31 November for 1 December.
  const [, year, month, day] = isDate ? (/^(\d{4})-(\d\d)-(\d\d)/.exec(value) ?? []) : [];
  const isNoDay =
    day !== undefined && Number(day) > new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate();
  if (Number.isNaN(ms) || isNoDay)
    throw badRequest(`${name}: "${text(value)}" is not a time; expected ISO 8601 or Unix ms`);
  return ms;
}
