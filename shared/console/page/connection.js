/** @typedef {import('@nrdot/status').PipelineStatus} PipelineStatus */
/** @typedef {import('@nrdot/status').HistoryColumns} HistoryColumns */

export const CLASSES = /** @type {const} */ (['critical', 'high', 'normal']);

const TOKEN = 'nrdot.admin.token';
const TIMEOUT_MS = 5_000;

/** An error answer, with the server's message. */
export class Refusal extends Error {
  /** @param {number} status @param {string} message @param {unknown} body */
  constructor(status, message, body) {
    super(message);
    this.name = 'Refusal';
    this.status = status;
    this.body = body;
  }
}

/** The token is kept in this tab only, and sent in a header, never in a URL. */
export const token = {
  get value() {
    return sessionStorage.getItem(TOKEN) ?? '';
  },
  /** @param {string} value */
  keep(value) {
    sessionStorage.setItem(TOKEN, value);
  },
  forget() {
    sessionStorage.removeItem(TOKEN);
  },
};

/**
 * @template T
 * @param {string} path
 * @returns {Promise<T>}
 * @throws Refusal, or Error when nothing answers
 */
export function get(path) {
  return request(path, {});
}

/**
 * @template T
 * @param {string} path
 * @param {string} [yaml]
 * @returns {Promise<T>}
 * @throws Refusal, or Error when nothing answers
 */
export function post(path, yaml) {
  return request(path, {
    method: 'POST',
    ...(yaml === undefined ? {} : { body: yaml, headers: { 'content-type': 'application/yaml' } }),
  });
}

/** @param {string} path @param {RequestInit} init */
async function request(path, init) {
  const response = await fetch(path, {
    ...init,
    headers: { ...init.headers, ...(token.value ? { authorization: `Bearer ${token.value}` } : {}) },
    signal: AbortSignal.timeout(TIMEOUT_MS),
    cache: 'no-store',
    redirect: 'error',
  });
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  throw new Refusal(response.status, body.error?.message ?? `${path} answered ${response.status}`, body);
}
