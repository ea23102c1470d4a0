import { SkimError } from "../base/errors.js";
import { type ImageConfig, parseImageConfig } from "../image/config.js";
import { referenceText } from "../image/reference.js";
import type { ResolvedImage } from "../registry/image-source.js";

/** The config of an image, with one diffId for each of its layers. Throws IMAGE_INVALID. */
export function configOf(image: ResolvedImage): ImageConfig {
  const where = `config ${image.config.digest} of ${referenceText(image.reference)}`;
  const config = parseImageConfig(image.configBytes, where);
  if (config.diffIds.length !== image.layers.length) {
    throw new SkimError(
      "IMAGE_INVALID",
      `${where}: ${config.diffIds.length} diffIds for ${image.layers.length} layers; is this a container image?`,
    );
  }
  return config;
}
