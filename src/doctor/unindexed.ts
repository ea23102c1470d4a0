/** What is wrong with an image that cannot be indexed: then there is no tree to look into, but its manifest, and the reason. */
import { type ErrorCode, isSkimError, type SkimError } from "../base/errors.js";
import type { Descriptor } from "../image/manifest.js";
import { classifyLayer } from "../layer/layer-kind.js";
import { layerName } from "../layer/layer-name.js";
import type { ExaminedCheck } from "./examine.js";

/** Faults of the image itself, by the check that they belong to. All other errors say that nobody could look. */
const checkIds: Partial<Readonly<Record<ErrorCode, string>>> = {
  PLATFORM_NOT_FOUND: "arch",
  LAYER_UNSUPPORTED: "layer-type",
  LAYER_CORRUPT: "layer-content",
  DIFF_ID_MISMATCH: "layer-content",
  LIMIT_EXCEEDED: "layer-content",
  IMAGE_INVALID: "manifest",
};

const advice: Readonly<Record<string, string>> = {
  arch: "choose a platform that the image has (--platform), or build it for this one",
  "layer-type": "push the image again with its layers, decrypted, as tar with gzip or zstd",
  "layer-content": "build or push the image again",
  "hard-links": "build the image anew: a file that a link names is missing",
  manifest: "build or push the image again with a current tool",
};

/** True where `error` says what is wrong with the image, and not with the way to it. */
export function isFaultOfImage(error: unknown): error is SkimError {
  return isSkimError(error) && checkIds[error.code] !== undefined;
}

/** One finding for each layer that cannot be read, where that is the reason; else the one. */
export function unindexedFindings(error: SkimError, layers: readonly Descriptor[]): ExaminedCheck[] {
  const unreadable = layers.flatMap((descriptor, position) => {
    const where = layerName(descriptor.digest, position, layers.length);
    try {
      classifyLayer(descriptor, where);
      return [];
    } catch (reason) {
      return isSkimError(reason) ? [finding("layer-type", where, reason.message)] : [];
    }
  });
  if (unreadable.length > 0) return unreadable;
  const id = / is a hard link to /.test(error.message) ? "hard-links" : checkIds[error.code]!;
  const where = /^(layer \d+ of \d+, [^ :]+:[^ :]+): /.exec(error.message)?.[1];
  return [finding(id, where ?? "the image", error.message)];
}

function finding(id: string, path: string, message: string): ExaminedCheck {
  const detail = message.startsWith(`${path}: `) ? message.slice(path.length + 2) : message;
  return { id, status: "fail", path, detail, fix: advice[id]!, bytesRead: 0 };
}
