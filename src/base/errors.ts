/**
 * One error class for everything skim reports, and the one table that says what each code means outside: the errno a
 * reader of a mount sees, the exit code of the command line, and whether trying again can help.
 *
 * A message is one line: what failed, on what, what was found, what to do. Rooms wrap at their doors and keep `cause`.
 */

interface ErrorMeaning {
  /**
   * What a process that reads a mount gets. EIO for whatever kept the bytes away, credentials and missing blobs included: ENOENT or
   * EACCES from read(2) would speak of the file, which is there and may be read.
   */
  readonly errno: keyof typeof errnoNumbers;
  /** Exit code of the command line. `skim run` reports its own failures as 125, as docker does. */
  readonly exitCode: number;
  /** True where the same call may succeed later without anything being changed. */
  readonly retryable: boolean;
}

/** Linux errno values of the names used in the table (asm-generic/errno.h; the same on x86-64 and arm64). */
export const errnoNumbers = {
  EINTR: 4,
  EIO: 5,
  EBUSY: 16,
  EINVAL: 22,
  EOPNOTSUPP: 95,
} as const;

export const errorTable = {
  /** The command line or an option of the library is not of the form it takes. */
  USAGE: { errno: "EINVAL", exitCode: 2, retryable: false },
  /** No such image, tag, blob, archive or mount. */
  NOT_FOUND: { errno: "EIO", exitCode: 3, retryable: false },
  /** The image has no manifest for the platform that was asked for. */
  PLATFORM_NOT_FOUND: { errno: "EIO", exitCode: 3, retryable: false },
  /** Credentials are missing, wrong or do not allow this. */
  AUTH_FAILED: { errno: "EIO", exitCode: 4, retryable: false },
  /** The registry could not be reached, or answered 429 or 5xx until the attempts or the deadline were used up. */
  REGISTRY_UNAVAILABLE: { errno: "EIO", exitCode: 5, retryable: true },
  /** The registry answered what the distribution spec does not allow: a wrong range, a short body, bad JSON. */
  REGISTRY_PROTOCOL: { errno: "EIO", exitCode: 5, retryable: true },
  /** The deadline of a read passed before its bytes were there. */
  DEADLINE_EXCEEDED: { errno: "EIO", exitCode: 5, retryable: true },
  /** Bytes do not have the digest they were asked for by. */
  DIGEST_MISMATCH: { errno: "EIO", exitCode: 6, retryable: true },
  /** A manifest or config that is not what the OCI image spec describes. */
  IMAGE_INVALID: { errno: "EIO", exitCode: 6, retryable: false },
  /** A layer that ends early, does not inflate, or is no tar. */
  LAYER_CORRUPT: { errno: "EIO", exitCode: 6, retryable: false },
  /** A layer whose uncompressed bytes do not have the diffId of the image config. */
  DIFF_ID_MISMATCH: { errno: "EIO", exitCode: 6, retryable: false },
  /** A foreign, encrypted or otherwise unreadable kind of layer. */
  LAYER_UNSUPPORTED: { errno: "EIO", exitCode: 6, retryable: false },
  /** A limit against hostile input was reached; the message names the setting that raises it. */
  LIMIT_EXCEEDED: { errno: "EIO", exitCode: 6, retryable: false },
  /** An archive that is truncated, flipped, unsorted or inconsistent; the message names the section. */
  ARCHIVE_DAMAGED: { errno: "EIO", exitCode: 7, retryable: false },
  /** An archive of a version this program does not read. */
  ARCHIVE_VERSION: { errno: "EIO", exitCode: 7, retryable: false },
  /** A mount point that cannot be used, or a mount that failed. */
  MOUNT_FAILED: { errno: "EIO", exitCode: 8, retryable: false },
  /** Something needed on the machine is missing; the message has the command that mends it. */
  ENVIRONMENT: { errno: "EOPNOTSUPP", exitCode: 9, retryable: false },
  /** A directory, id or mount that somebody else uses. */
  IN_USE: { errno: "EBUSY", exitCode: 10, retryable: true },
  /** So much is waiting already that more is refused, or nothing new is taken any more. */
  BUSY: { errno: "EBUSY", exitCode: 13, retryable: true },
  /** The container runtime refused or failed before the process started. */
  RUNTIME_FAILED: { errno: "EIO", exitCode: 11, retryable: false },
  /** A local file could not be read or written. */
  LOCAL_IO: { errno: "EIO", exitCode: 12, retryable: false },
  /** The caller's AbortSignal fired. */
  CANCELLED: { errno: "EINTR", exitCode: 130, retryable: true },
  /** A mistake of ours. */
  INTERNAL: { errno: "EIO", exitCode: 70, retryable: false },
} as const satisfies Record<string, ErrorMeaning>;

export type ErrorCode = keyof typeof errorTable;

export class SkimError extends Error {
  override readonly name = "SkimError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  get retryable(): boolean {
    return errorTable[this.code].retryable;
  }

  get exitCode(): number {
    return errorTable[this.code].exitCode;
  }
}

export function isSkimError(error: unknown, code?: ErrorCode): error is SkimError {
  return error instanceof SkimError && (code === undefined || error.code === code);
}

/** The errno (positive) that a reader of a mount gets for `error`; EIO for what no room has named. */
export function errnoOf(error: unknown): number {
  return error instanceof SkimError ? errnoNumbers[errorTable[error.code].errno] : errnoNumbers.EIO;
}

/** The system error code (`ENOENT`, ...) of an error of node's, or undefined. */
export function systemErrorCode(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** What the kernel refused is no mistake of ours, though nobody on the way had more to say about it. Other errors are given back as they are. */
export function withLocalCode(error: unknown): unknown {
  if (error instanceof SkimError || !isSystemCallError(error)) return error;
  const denied = ["EACCES", "EPERM"].includes(systemErrorCode(error) ?? "");
  return denied && process.geteuid?.() !== 0
    ? new SkimError("ENVIRONMENT", `this user may not do that; run skim as root: ${error.message}`)
    : new SkimError("LOCAL_IO", error.message, { cause: error });
}

function isSystemCallError(error: unknown): error is Error {
  return error instanceof Error && "syscall" in error && systemErrorCode(error) !== undefined;
}

/** The message of anything that was thrown, with the messages of its causes behind it. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (let at: unknown = error, depth = 0; at !== undefined && depth < 5; depth++) {
    const text = at instanceof Error ? at.message || systemErrorCode(at) || at.name : String(at);
    if (text && !parts.some((part) => part.includes(text))) parts.push(text);
    at = at instanceof Error ? at.cause : undefined;
  }
  return parts.join(": ");
}

/** A check for what only a mistake of ours can break: throws INTERNAL with the sentence that no longer holds. */
export function invariant(condition: unknown, sentence: string): asserts condition {
  if (!condition) throw new SkimError("INTERNAL", `skim is broken here: ${sentence}; please report it`);
}
