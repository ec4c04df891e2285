/**
 * What a tap must not show. When in doubt, redact: a sample is for seeing what flows, not for reading secrets. docs/tap.md
 * documents this.
 */

export const REDACTED = '[redacted]';
const MAX_CHARS = 256;

/** Parts of keys, without separators and case, whose values are never shown. */
const SECRET_KEY =
  /passw|passphrase|passcode|^pwd|pwd$|secret|token|credential|authori[sz]ation|^auth$|authkey|cookie|session|apikey|accesskey|privatekey|signingkey|encryptionkey|licen[sc]ekey|accountkey|sharedkey|sshkey|signature|connectionstring|^dsn$|jwt|bearer|otp$|csrf|xsrf|^pin$|^cvv|^ssn$|creditcard|cardnumber/;

/**
 * Patterns within texts, and their replacements. Each runs in linear time: no two repeatable parts of a pattern match the same
 * characters, and no match starts where another attempt has been.
 */
const IN_TEXT: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN [\s\S]*?(?:-----END [^-]*-----|$)/g, REDACTED],
  [/\b(bearer|basic|digest|negotiate|token|apikey)(\s+)[\w.~+/=-]{6,}/gi, `$1$2${REDACTED}`],
  // user:password@ of a URL
  [/(?<=[a-z0-9+.-]:\/\/)[^\s/@]+@/gi, `${REDACTED}@`],
  // of curl and the like, and of SQL
  [/(\s(?:-u|--user)\s+[^\s:]+:)\S+/g, `$1${REDACTED}`],
  [/\b(identified\s+by\s+)\S+/gi, `$1${REDACTED}`],
  [/\beyJ[\w-]{8,}(?:\.[\w-]*)*/g, REDACTED],
];

/**
 * Commands whose short option has a password, with the rest of their line, and that option. Elsewhere `-port` and `-path` are
 * ordinary words. `mysql -p` without a value asks for one, so the next word is none.
 */
const COMMANDS: readonly (readonly [RegExp, RegExp])[] = [
  [
    /\b(?:mysql|mariadb|xtrabackup)[^\r\n]*/gi,
    /(\s-p)(?!(?:ort|ath|id|rotocol)(?:[\s=]|$))(?:"[^"]*"?|'[^']*'?|[^\s"']+)/g,
  ],
  [/\b(?:mysql|mariadb|xtrabackup)[^\r\n]*/gi, /(["']-p)[^\s"']+/g], // as an array of arguments
  [/\b(?:sshpass|mongo)[^\r\n]*/gi, /(\s-p\s*)(?:"[^"]*"?|'[^']*'?|[^\s"']+)/],
  [/\bredis-cli[^\r\n]*/gi, /(\s-a\s*)(?:"[^"]*"?|'[^']*'?|[^\s"']+)/],
];

/**
 * password=…, "token": "…", x-api-key: … in queries, headers, JSON and log lines: what may precede `=` or `:`, also
 * percent-encoded, or the blank after `--password`.
 */
const SECRET_NAME =
  /passw(?:or)?d|passphrase|pwd|secret|token|credential|authorization|cookie|session|api[_-]?key|access[_-]?key|private[_-]?key|licen[sc]e[_-]?key|signature|(?:^|[^\w])sig|jwt/i;
/** An element of XML that has text. */
const ELEMENT = /(<([\w:.-]+)(?:\s[^<>]*)?>)[^<]+/g;
/** Also `=> "…"`, `:= …`, and `\"…\"` of JSON within JSON. The first group is kept. */
const ASSIGNED =
  /([\s=:>]*)(?:\\+"[^"]*"?|\\+'[^']*'?|"(?:[^"\\]|\\[\s\S])*"?|'(?:[^'\\]|\\[\s\S])*'?|[^\s&;,"'}\]]+)/y;
/** Headers whose values contain blanks, commas and quotes: the rest of the line is redacted. */
const SECRET_HEADER = /(?:cookie|authorization)$/i;
const LINE = /([\t ]*)[^\t\r\n "'\\][^\r\n]*/y;
/** In a query within a query. */
const ENCODED_SIGN = /%3[ad]/iy;

/** A run without blanks, and what makes it opaque: twenty letters and digits in a row, with some of each. */
const STRETCH = /[\w+/=.~-]{20,}/g;
const RUNS = /[A-Za-z0-9+]{20,}/g;
const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;

export function isSecretKey(key: string): boolean {
  return SECRET_KEY.test(
    key
      .normalize('NFKC')
      .replace(/[^A-Za-z0-9]/g, '')
      .toLowerCase(),
  );
}

/** The text without what looks like a secret, cut to a maximum length. */
export function redactText(text: string): string {
  // Of a very long text only the beginning is searched, with some margin for a secret that crosses the cut.
  let clean = text.slice(0, 2 * MAX_CHARS);
  for (const [pattern, instead] of IN_TEXT) clean = clean.replace(pattern, instead);
  for (const [command, option] of COMMANDS) clean = withoutOption(clean, command, option);
  clean = clean.replace(ELEMENT, (all, begin: string, name: string) =>
    SECRET_NAME.test(name) ? begin + REDACTED : all,
  );
  clean = withoutAssigned(clean);
  clean = clean.replace(STRETCH, (stretch) => (isOpaque(stretch) ? REDACTED : stretch));
  return clean.length > MAX_CHARS || text.length > 2 * MAX_CHARS ? `${clean.slice(0, MAX_CHARS)}…` : clean;
}

/** Redacts the value of a command's option: the first one, unless the pattern is global, and that of commands behind it. */
function withoutOption(text: string, command: RegExp, option: RegExp): string {
  return text.replace(command, (line) => {
    if (option.global) return line.replace(option, `$1${REDACTED}`);
    const found = option.exec(line);
    if (!found) return line;
    const rest = line.slice(found.index + found[0].length);
    return line.slice(0, found.index) + found[1] + REDACTED + withoutOption(rest, command, option);
  });
}

/** Redacts what is assigned to a name that suggests a secret. Looks back for the name from each sign of an assignment. */
function withoutAssigned(text: string): string {
  let clean = '';
  let from = 0;
  for (let at = 0; at < text.length; at++) {
    const length = signAt(text, at);
    if (length === 0) continue;
    const isFlag = isBlank(text[at]!);
    let end = at;
    while (!isFlag && end > from && isBlank(text[end - 1]!)) end--;
    if (end > from && (text[end - 1] === '"' || text[end - 1] === "'")) end--;
    while (end > from && text[end - 1] === '\\') end--;
    let start = end;
    while (start > from && isNamePart(text.charCodeAt(start - 1))) start--;
    if (start === end || (isFlag && !text.startsWith('--', start))) continue;
    const name = text.slice(start, end);
    if (!SECRET_NAME.test(name)) continue;
    const after = at + length;
    const isHeader = text[at] === ':' && SECRET_HEADER.test(name);
    const assigned = (isHeader ? execAt(LINE, text, after) : null) ?? execAt(ASSIGNED, text, after);
    if (assigned === null) continue;
    clean += text.slice(from, after) + assigned[1] + REDACTED;
    from = after + assigned[0].length;
    at = from - 1;
  }
  return clean + text.slice(from);
}

/** Length of the sign at this position by which a value is assigned; 0 if there is none. */
function signAt(text: string, at: number): number {
  const character = text[at]!;
  if (character === '=' || character === ':') return 1;
  if (character === '%') return execAt(ENCODED_SIGN, text, at) ? 3 : 0;
  // The first blank after a name.
  return at > 0 && isBlank(character) && isNamePart(text.charCodeAt(at - 1)) ? 1 : 0;
}

/** @param pattern a sticky one */
function execAt(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

function isBlank(character: string): boolean {
  return character.trim() === '';
}

/** Letters, digits, `_`, `.` and `-`. */
function isNamePart(code: number): boolean {
  return (
    (code >= 0x61 && code <= 0x7a) ||
    (code >= 0x41 && code <= 0x5a) ||
    (code >= 0x30 && code <= 0x39) ||
    code === 0x5f ||
    code === 0x2e ||
    code === 0x2d
  );
}

function isOpaque(stretch: string): boolean {
  if (UUID.test(stretch)) return false;
  return (stretch.match(RUNS) ?? []).some((run) => /[A-Za-z]/.test(run) && /[0-9]/.test(run));
}
