import type { Reference } from "../image/reference.js";
import type { ImageSource } from "./image-source.js";
import { LayoutSource } from "./layout-source.js";
import { RegistrySource, type RegistrySourceOptions } from "./registry-source.js";

/**
 * Opens what `reference` names: a repository of a registry, or an OCI layout directory. Nothing is asked or read yet, so that nothing
 * fails yet; the caller closes it.
 */
export function openImageSource(reference: Reference, options: RegistrySourceOptions): ImageSource {
  return reference.kind === "layout" ? new LayoutSource(reference) : new RegistrySource(reference, options);
}
