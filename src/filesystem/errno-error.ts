/**
 * What an operation on the tree fails with: an errno name, for a kernel, inside a SkimError, for everybody else.
 *
 * The codes of SkimError are coarser than errno: ENOTDIR, EISDIR and ELOOP are all "not something that can be done with this path". A
 * subclass that carries the errno keeps one kind of error in the project (the command line prints it and has its exit code like any
 * other) and gives an engine the exact number. Answers that are no failure are not thrown: a name that is not there is
 * inode number 0, a missing attribute is undefined. Those are the frequent ones, and an exception costs more than the lookup.
 */
import { constants } from "node:os";
import { type ErrorCode, errnoOf, SkimError } from "../base/errors.js";

/**
 * What the operations of ImageFilesystem can fail with on their own; reading adds the errors of the content room. EACCES is for views of a tree
 * as one user has it: the tree itself knows no users.
 */
export type ErrnoName =
  | "ENOENT"
  | "ENOTDIR"
  | "EISDIR"
  | "EINVAL"
  | "ENAMETOOLONG"
  | "ELOOP"
  | "ESTALE"
  | "EACCES";

const codes: Readonly<Record<ErrnoName, ErrorCode>> = {
  ENOENT: "NOT_FOUND",
  ENOTDIR: "USAGE",
  EISDIR: "USAGE",
  EINVAL: "USAGE",
  ENAMETOOLONG: "USAGE",
  ELOOP: "USAGE",
  ESTALE: "INTERNAL",
  EACCES: "USAGE",
};

export class ErrnoError extends SkimError {
  readonly errnoName: ErrnoName;

  constructor(errnoName: ErrnoName, message: string) {
    super(codes[errnoName], message);
    this.errnoName = errnoName;
  }
}

/** The errno (positive) that a reader of a mount gets for anything an operation of ImageFilesystem threw. */
export function errnoNumberOf(error: unknown): number {
  return error instanceof ErrnoError ? constants.errno[error.errnoName] : errnoOf(error);
}
