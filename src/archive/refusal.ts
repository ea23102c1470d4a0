import { SkimError } from "../base/errors.js";

/**
 * Makes the error for a rule of FORMAT.md that an archive breaks: `section` and, where there is one, the number of the record
 * (from 0), then what was found there. `cause` is kept.
 */
export type Refuse = (
  section: string,
  record: number | undefined,
  found: string,
  options?: { cause?: unknown },
) => SkimError;

/** `label` names the archive for people: its file. */
export function refusalOf(label: string): Refuse {
  return (section, record, found, options) => {
    const place = record === undefined ? section : `${section} record ${record}`;
    return new SkimError(
      "ARCHIVE_DAMAGED",
      `archive ${label} is damaged: ${place}: ${found}; index the image again`,
      options,
    );
  };
}
