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

const USUAL_CODES: Readonly<Record<number, number>> = {
  401: GRPC.UNAUTHENTICATED,
  404: GRPC.NOT_FOUND,
  405: GRPC.UNIMPLEMENTED,
  413: GRPC.RESOURCE_EXHAUSTED,
  500: GRPC.INTERNAL,
  503: GRPC.UNAVAILABLE,
};

/** An error of a request, as reported to the client. */
export class OtlpError extends Error {
  readonly httpStatus: number;
  /** Stable and short, for metrics. */
  readonly code: string;
  readonly grpcCode: number;

  /** @param grpcCode by default the one that goes with the HTTP status */
  constructor(
    httpStatus: number,
    code: string,
    message: string,
    grpcCode = USUAL_CODES[httpStatus] ?? GRPC.INVALID_ARGUMENT,
  ) {
    super(message);
    this.name = 'OtlpError';
    this.httpStatus = httpStatus;
    this.code = code;
    this.grpcCode = grpcCode;
  }
}
