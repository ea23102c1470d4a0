/**
 * What is unpacked: the Debian image, and a second one that shares it as its base and adds a small layer; served to all systems by one registry, a
 * process of its own on loopback.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { cp } from "node:fs/promises";
import path from "node:path";
import { run } from "../support/processes.js";
import { randomFile, writeTar } from "../support/tar-tree.js";

const root = path.resolve(import.meta.dirname, "../..");
export const cliFile = path.join(root, "dist/bin/skim.js");

/** The second image's own layer. */
const ownLayerBytes = 2 * 1024 * 1024;

export class UnpackImages {
  /** Names of the images, for skim; with `docker://` before them for skopeo. */
  readonly debian: string;
  readonly derived: string;
  readonly #registry: ChildProcess;

  private constructor(host: string, registry: ChildProcess) {
    this.debian = `${host}/bench:debian`;
    this.derived = `${host}/bench:derived`;
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

    const registry = spawn(process.execPath, [cliFile, "registry", "serve", `oci:${layout}`, "--json"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let text = "";
    for await (const piece of registry.stdout!.setEncoding("utf8")) {
      text += piece;
      if (text.includes("}")) break;
    }
    return new UnpackImages((JSON.parse(text) as { host: string }).host, registry);
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#registry.once("exit", resolve));
    this.#registry.kill();
    await ended;
  }
}
