/**
 * The error classes of the package. Each says whom to call: the peer's operator, the system's, or whoever wrote the
 * calling program. Misuse of an API is a `TypeError` or `RangeError`, an aborted call rejects with the caller's own
 * reason; everything else is one of these.
 *
 * @module
 */

/** Options every {@linkcode FastwireError} takes besides its message. */
export interface FastwireErrorOptions {
  /** What lies behind it; never dropped. */
  readonly cause?: unknown;
}

/** Base of all errors of the package; never thrown itself. */
export abstract class FastwireError extends Error {
  /** Stable machine-readable name, `area.kebab-case`. Never reused with a new meaning. */
  readonly code: string;

  /**
   * Describes what happened.
   *
   * @param code Stable name.
   * @param message In the grammar *Cannot do what: state, expectation*.
   * @param options The cause.
   */
  constructor(code: string, message: string, options?: FastwireErrorOptions) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
  }
}

/** The peer broke the protocol. */
export class ProtocolError extends FastwireError {
  /** Byte offset in the message where it broke, when there is one. */
  readonly offset: number | undefined;
  /** The rule that was broken, as the standard numbers it. */
  readonly rule: string;

  /**
   * Describes what happened.
   *
   * @param code Stable name.
   * @param message In the grammar *Cannot do what: state, expectation*.
   * @param details The fields of this class, and the cause.
   */
  constructor(
    code: string,
    message: string,
    details: FastwireErrorOptions & { readonly rule: string; readonly offset?: number },
  ) {
    super(code, message, details);
    this.rule = details.rule;
    this.offset = details.offset;
  }
}

/** The peer refused, legally. */
export class PeerError extends FastwireError {
  /** The number the protocol gives the refusal. */
  readonly peerCode: number;
  /** The peer's own words: data, without control characters, length-limited. */
  readonly peerMessage: string;

  /**
   * Describes what happened.
   *
   * @param code Stable name.
   * @param message In the grammar *Cannot do what: state, expectation*.
   * @param details The fields of this class, and the cause.
   */
  constructor(
    code: string,
    message: string,
    details: FastwireErrorOptions & { readonly peerCode: number; readonly peerMessage: string },
  ) {
    super(code, message, details);
    this.peerCode = details.peerCode;
    this.peerMessage = details.peerMessage;
  }
}

/** Nobody answered in time. */
export class DeadlineError extends FastwireError {
  /** What was being waited for. */
  readonly phase: string;
  /** Milliseconds from the start of the job. */
  readonly elapsedMs: number;
  /** How often it was tried. */
  readonly attempts: number;

  /**
   * Describes what happened.
   *
   * @param code Stable name.
   * @param message In the grammar *Cannot do what: state, expectation*.
   * @param details The fields of this class, and the cause.
   */
  constructor(
    code: string,
    message: string,
    details: FastwireErrorOptions & {
      readonly phase: string;
      readonly elapsedMs: number;
      readonly attempts: number;
    },
  ) {
    super(code, message, details);
    this.phase = details.phase;
    this.elapsedMs = details.elapsedMs;
    this.attempts = details.attempts;
  }
}

/** Credentials were not accepted. Never says which half was wrong. */
export class AuthError extends FastwireError {}

/** A bound that we set was reached. */
export class LimitError extends FastwireError {
  /** Name of the bound. */
  readonly limit: string;
  /** The bound, in the unit its name gives. */
  readonly value: number;

  /**
   * Describes what happened.
   *
   * @param code Stable name.
   * @param message In the grammar *Cannot do what: state, expectation*.
   * @param details The fields of this class, and the cause.
   */
  constructor(
    code: string,
    message: string,
    details: FastwireErrorOptions & { readonly limit: string; readonly value: number },
  ) {
    super(code, message, details);
    this.limit = details.limit;
    this.value = details.value;
  }
}

/** The operating system refused. */
export class SystemError extends FastwireError {
  /** The call that was refused, by its manual page's name. */
  readonly syscall: string;
  /** The positive error number; 0 when the runtime did not tell. */
  readonly errno: number;
  /** The symbolic name of the error, `EADDRINUSE`. */
  readonly errnoName: string;

  /**
   * Describes what happened.
   *
   * @param code Stable name.
   * @param message In the grammar *Cannot do what: state, expectation*.
   * @param details The fields of this class, and the cause.
   */
  constructor(
    code: string,
    message: string,
    details: FastwireErrorOptions & {
      readonly syscall: string;
      readonly errno: number;
      readonly errnoName: string;
    },
  ) {
    super(code, message, details);
    this.syscall = details.syscall;
    this.errno = details.errno;
    this.errnoName = details.errnoName;
  }
}

/** The wanted mechanism is not available here. */
export class CapabilityError extends FastwireError {
  /** The mechanism, as `fastwire doctor` names it. */
  readonly capability: string;
  /** One plain sentence. */
  readonly why: string;
  /** What to do about it. */
  readonly remedy: string;

  /**
   * Describes what happened.
   *
   * @param code Stable name.
   * @param message In the grammar *Cannot do what: state, expectation*.
   * @param details The fields of this class, and the cause.
   */
  constructor(
    code: string,
    message: string,
    details: FastwireErrorOptions & {
      readonly capability: string;
      readonly why: string;
      readonly remedy: string;
    },
  ) {
    super(code, message, details);
    this.capability = details.capability;
    this.why = details.why;
    this.remedy = details.remedy;
  }
}
