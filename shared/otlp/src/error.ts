/** gRPC codes that OTLP/HTTP puts into `Status.code` (google.rpc.Code). */
export const GRPC = {
  CANCELLED: 1,
  INVALID_ARGUMENT: 3,
  NOT_FOUND: 5,
  RESOURCE_EXHAUSTED: 8,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
} as const;

/** An error of a request, as reported to the client. */
export class OtlpError extends Error {
  /** Stable and short, for metrics. */
  readonly code: string;
  readonly httpStatus: number;
  readonly grpcCode: number;
  /** Position in the body: a path or a byte offset. */
  readonly where: string | undefined;

  constructor(fault: {
    code: string;
    httpStatus: number;
    grpcCode: number;
    message: string;
    where?: string;
  }) {
    super(fault.where ? `${fault.where}: ${fault.message}` : fault.message);
    this.name = 'OtlpError';
    this.code = fault.code;
    this.httpStatus = fault.httpStatus;
    this.grpcCode = fault.grpcCode;
    this.where = fault.where;
  }
}

/** A 400: the body is malformed. */
export function malformed(code: string, message: string, where?: string): OtlpError {
  return new OtlpError({
    code,
    httpStatus: 400,
    grpcCode: GRPC.INVALID_ARGUMENT,
    message,
    ...(where ? { where } : {}),
  });
}

/** A 413: the body exceeds a limit. */
export function oversized(message: string): OtlpError {
  return new OtlpError({ code: 'too_large', httpStatus: 413, grpcCode: GRPC.RESOURCE_EXHAUSTED, message });
}
