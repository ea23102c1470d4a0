import { type Digest, digestAlgorithm, digestHex } from "../image/digest.js";

/** How errors and warnings name a layer: "layer 3 of 7, sha256:ab12cd34ef56...". `position` counts from 0 for the base layer. */
export function layerName(digest: Digest, position: number, count: number): string {
  return `layer ${position + 1} of ${count}, ${digestAlgorithm(digest)}:${digestHex(digest).slice(0, 12)}...`;
}
