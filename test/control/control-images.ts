import { createHash, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { type EmbeddedRegistry, startEmbeddedRegistry } from "../../src/registry/embedded-registry.js";
import { writeTestImage } from "../support/oci-layout.js";
import { buildTar } from "../support/tar-builder.js";

const applets = ["sh", "cat", "echo", "sleep", "sha256sum", "true", "test", "kill"];

export interface ControlImagesOptions {
  readonly images?: number;
  readonly files?: number;
  readonly fileBytes?: number;
}

/** Images of busybox with files of their own, in a registry on loopback; `sums` in the root of each is what sha256sum -c takes. */
export interface ControlImages {
  readonly registry: EmbeddedRegistry;
  readonly layout: string;
  /** Names of the images. */
  readonly names: readonly string[];
  /** What is in the files of each image. */
  readonly sums: readonly string[];
}

export async function startControlImages(
  dir: string,
  { images = 1, files = 4, fileBytes = 100_000 }: ControlImagesOptions = {},
): Promise<ControlImages> {
  const layout = path.join(dir, "layout");
  const base = buildTar([
    { path: "bin/", type: "directory" },
    { path: "bin/busybox", content: await readFile("/bin/busybox"), mode: 0o755 },
    ...applets.map((name) => ({ path: `bin/${name}`, type: "hardlink" as const, link: "bin/busybox" })),
    { path: "tmp/", type: "directory", mode: 0o1777 },
  ]);
  const sums: string[] = [];
  for (let image = 0; image < images; image++) {
    const contents = Array.from({ length: files }, () => randomBytes(fileBytes));
    const lines = contents.map(
      (content, file) => `${createHash("sha256").update(content).digest("hex")}  files/${file}\n`,
    );
    sums.push(lines.join(""));
    const tar = buildTar([
      ...contents.map((content, file) => ({ path: `files/${file}`, content })),
      { path: "name", content: `image ${image}\n` },
      { path: "sums", content: lines.join("") },
    ]);
    await writeTestImage(layout, [{ tar: base }, { tar }], {
      tag: `v${image}`,
      config: { Cmd: ["sh", "-c", "cat /name"], Env: ["PATH=/bin"] },
    });
  }
  const registry = await startEmbeddedRegistry({ layout });
  const names = sums.map((_, image) => `${registry.host}/image:v${image}`);
  return { registry, layout, names, sums };
}
