/**
 * What is unpacked: the Debian image, and a second one that shares it as its base and adds a small layer; served to all systems by one registry, a
 * process of its own on loopback.
 */
import { cp } from "node:fs/promises";
import path from "node:path";
import { run } from "../support/processes.js";
import { RegistryProcess } from "../support/registry-process.js";
import { randomFile, writeTar } from "../support/tar-tree.js";

const root = path.resolve(import.meta.dirname, "../..");

/** The second image's own layer. */
const ownLayerBytes = 2 * 1024 * 1024;

export class UnpackImages {
  /** Names of the images, for skim; with `docker://` before them for skopeo. */
  readonly debian: string;
  readonly derived: string;
  readonly #registry: RegistryProcess;

  private constructor(registry: RegistryProcess) {
    this.debian = `${registry.host}/bench:debian`;
    this.derived = `${registry.host}/bench:derived`;
    this.#registry = registry;
  }

  static async serve(workDir: string, signal: AbortSignal): Promise<UnpackImages> {
    const made = path.join(root, ".fixtures/debian-image");
    await run(path.join(root, "scripts/make-debian-image.sh"), [made], { signal });
    const layout = path.join(workDir, "images.oci");
    await cp(made, layout, { recursive: true });
    const { file } = await writeTar(path.join(workDir, "own.tar"), randomFile("own", ownLayerBytes), signal);
    const image = ["--image", `${layout}:debian`];
    await run("umoci", ["tag", ...image, "derived"], { signal });
    await run("umoci", ["raw", "add-layer", "--image", `${layout}:derived`, file], { signal });
    return new UnpackImages(await RegistryProcess.serve(layout));
  }

  async close(): Promise<void> {
    await this.#registry.close();
  }
}
