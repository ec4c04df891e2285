/** Fields of errors from the system, TLS or the HTTP client. */
interface SystemError {
  name?: unknown;
  code?: unknown;
  message?: unknown;
  cause?: unknown;
  errors?: unknown;
  path?: unknown;
  hostname?: unknown;
  address?: unknown;
  port?: unknown;
}

type Words = string | ((error: SystemError) => string);

const tls = (reason: string) => `the server's certificate ${reason}`;
const at = ({ address, port }: SystemError) =>
  address === undefined ? '' : ` by ${address}${port === undefined ? '' : `:${port}`}`;
const of = ({ path }: SystemError, otherwise: string) => (typeof path === 'string' ? path : otherwise);

/** Messages by error code, for people. Programs get the code beside it. */
const WORDS = new Map<string, Words>(
  Object.entries({
    // Network
    ECONNREFUSED: (error) => `connection refused${at(error)}`,
    ECONNRESET: 'connection reset by the peer',
    ECONNABORTED: 'connection aborted',
    EPIPE: 'connection closed by the peer',
    UND_ERR_SOCKET: 'connection closed by the peer',
    ENOTFOUND: ({ hostname }) => `cannot resolve ${hostname ?? 'the host name'}`,
    EAI_AGAIN: ({ hostname }) => `cannot resolve ${hostname ?? 'the host name'}: no name server answers`,
    ETIMEDOUT: 'the connection attempt timed out',
    UND_ERR_CONNECT_TIMEOUT: 'the connection attempt timed out',
    UND_ERR_HEADERS_TIMEOUT: 'no answer in time',
    UND_ERR_BODY_TIMEOUT: 'the response was incomplete: no more data in time',
    UND_ERR_RESPONSE_EXCEEDED_SIZE: 'the answer is too large',
    EHOSTUNREACH: 'no route to the host',
    ENETUNREACH: 'the network cannot be reached',
    ENETDOWN: 'the network is down',
    EADDRINUSE: 'another process listens there',
    EADDRNOTAVAIL: 'this machine has no such address',
    // TLS
    CERT_HAS_EXPIRED: tls('has expired'),
    CERT_NOT_YET_VALID: tls('is not valid yet (is the clock right?)'),
    DEPTH_ZERO_SELF_SIGNED_CERT: tls('is self-signed; set tls.ca_file to it'),
    SELF_SIGNED_CERT_IN_CHAIN: tls('is signed by an untrusted CA; set tls.ca_file to that CA'),
    UNABLE_TO_VERIFY_LEAF_SIGNATURE: tls('cannot be verified; set tls.ca_file to its CA'),
    UNABLE_TO_GET_ISSUER_CERT: tls('cannot be verified; set tls.ca_file to its CA'),
    UNABLE_TO_GET_ISSUER_CERT_LOCALLY: tls('cannot be verified; set tls.ca_file to its CA'),
    CERT_REVOKED: tls('was revoked'),
    ERR_TLS_CERT_ALTNAME_INVALID: tls('is for another host name'),
    ERR_SSL_WRONG_VERSION_NUMBER: 'the server does not speak TLS (http:// instead of https://?)',
    EPROTO: 'TLS failed: the server does not speak it, or asks for a client certificate',
    ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: 'the server asks for a client certificate (tls.cert_file)',
    // Disk and permissions
    ENOSPC: 'no space left on the disk',
    EDQUOT: 'the disk quota is used up',
    EROFS: (error) => `${of(error, 'the file system')} is read-only`,
    EACCES: (error) => `no permission for ${of(error, 'this user')}`,
    EPERM: (error) => `no permission for ${of(error, 'this user')}`,
    ENOENT: (error) => `${of(error, 'it')} does not exist`,
    ENOTDIR: (error) => `${of(error, 'it')} is below something that is not a directory`,
    EISDIR: (error) => `${of(error, 'it')} is a directory`,
    EEXIST: (error) => `${of(error, 'it')} already exists`,
    EIO: 'the disk reported an input/output error',
    EMFILE: 'too many open files (ulimit -n)',
    ENFILE: 'too many open files on this machine',
    ENOMEM: 'not enough memory',
    ENAMETOOLONG: (error) => `${of(error, 'the path')} is too long`,
  }),
);

/**
 * Answers at which the HTTP client closes the connection, by its message. It never asks for one of these; but servers may send
 * 100 Continue all the same (RFC 9110, 15.2).
 */
const UNASKED = new Map([
  [
    'bad response',
    'the server sent 100 Continue, which was not asked for; what it did with the request is not known',
  ],
  ['bad upgrade', 'the server switched protocols (101), which was not asked for'],
]);

/**
 * Why something failed, for people: "cannot resolve otlp.example.com", "no space left on the disk". For an unknown error, its
 * own message.
 */
export function causeText(error: unknown): string {
  return wordsOf(error) ?? messageOf(error);
}

function wordsOf(error: unknown, depth = 0): string | undefined {
  if (typeof error !== 'object' || error === null || depth > 4) return undefined;
  const { name, code, message, cause, errors } = error as SystemError;
  // The most informative of several connection attempts: the first one with a known code.
  for (const attempt of Array.isArray(errors) ? errors : []) {
    const words = wordsOf(attempt, depth + 1);
    if (words) return words;
  }
  if (name === 'HTTPParserError') return 'the response is not HTTP/1.1 (a gRPC port, such as 4317?)';
  const closed = code === 'UND_ERR_SOCKET' && (UNASKED.get(String(message)) ?? wordsOf(cause, depth + 1));
  if (closed) return closed;
  const isPlain = code === 'EPROTO' && String(message).includes('wrong version number');
  const words = WORDS.get(isPlain ? 'ERR_SSL_WRONG_VERSION_NUMBER' : String(code));
  if (words !== undefined) return typeof words === 'string' ? words : words(error);
  // fetch only says that it failed, so use the cause; the message of an error of our own is better than its cause.
  return message === 'fetch failed' ? wordsOf(cause, depth + 1) : undefined;
}

function messageOf(error: unknown): string {
  const { message } = (error ?? {}) as SystemError;
  return typeof message === 'string' && message !== '' ? message : String(error);
}
