import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { writeTestImage } from "./oci-layout.js";
import { makeTempDir } from "./temp-dir.js";

/**
 * umoci as an independent opinion on what layers mean (Debian package umoci, 0.4.7). It needs root: as anybody else it neither keeps
 * owners nor makes devices. Both calls resolve to the extracted root directory and reject with what umoci printed.
 */
export interface UmociOptions {
  readonly keepDirlinks?: boolean;
}

/** Extracts an image of these uncompressed layers into a temporary directory, which goes with the test file. */
export async function unpackLayers(
  layers: readonly Uint8Array[],
  options: UmociOptions = {},
): Promise<string> {
  const dir = await makeTempDir("umoci");
  const image = path.join(dir, "image");
  await writeTestImage(
    image,
    layers.map((tar) => ({ tar })),
  );
  return await unpackLayout(image, "latest", path.join(dir, "bundle"), options);
}

/** Extracts the image `tag` of an OCI layout into the new directory `bundle`. */
export async function unpackLayout(
  layout: string,
  tag: string,
  bundle: string,
  options: UmociOptions = {},
): Promise<string> {
  if (process.getuid?.() !== 0) throw new Error("umoci is compared with as root only: run the tests as root");
  const flags = options.keepDirlinks ? ["--keep-dirlinks"] : [];
  await promisify(execFile)("umoci", ["unpack", ...flags, "--image", `${layout}:${tag}`, bundle], {
    maxBuffer: 2 ** 26,
  });
  return path.join(bundle, "rootfs");
}
