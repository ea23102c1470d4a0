import { SkimError } from "../base/errors.js";
import { settingEnvironment } from "../base/settings.js";

/** Where a tar reader stands, for errors that name the layer and the byte. One object a reader, changed in place. */
export class TarPosition {
  /** Of the header, or other block, that is being looked at; in the uncompressed stream. */
  offset = 0;

  constructor(readonly where: string) {}

  corrupt(sentence: string): SkimError {
    return new SkimError(
      "LAYER_CORRUPT",
      `${this.where}: at byte ${this.offset} of its uncompressed tar: ${sentence}; build or push the image again`,
    );
  }

  /** For limits that are the kernel's or ours for good. */
  limit(sentence: string, remedy = "no setting raises this limit"): SkimError {
    return new SkimError(
      "LIMIT_EXCEEDED",
      `${this.where}: at byte ${this.offset} of its uncompressed tar: ${sentence}; ${remedy}`,
    );
  }

  /** For too many members, or too many pieces of sparse files. */
  entriesLimit(sentence: string): SkimError {
    return this.limit(
      sentence,
      `raise layerEntriesMax (${settingEnvironment.layerEntriesMax}) if the image is to be trusted`,
    );
  }
}
