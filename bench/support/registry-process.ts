/** A registry in a process of its own on loopback: skim's, so that all systems get their bytes from the same. */
import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "../..");
/** The command line as it ships. */
export const cliFile = path.join(root, "dist/bin/skim.js");

export class RegistryProcess {
  /** e.g. `127.0.0.1:41234`; any repository name has all images of the layout. */
  readonly host: string;
  readonly #child: ChildProcess;

  private constructor(host: string, child: ChildProcess) {
    this.host = host;
    this.#child = child;
  }

  /** Serves the OCI layout in `layout` until closed. */
  static async serve(layout: string): Promise<RegistryProcess> {
    const child = spawn(process.execPath, [cliFile, "registry", "serve", `oci:${layout}`, "--json"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let text = "";
    for await (const piece of child.stdout.setEncoding("utf8")) {
      text += piece;
      if (text.includes("}")) break;
    }
    if (!text.includes("}")) throw new Error(`no registry for ${layout}`);
    return new RegistryProcess((JSON.parse(text) as { host: string }).host, child);
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill();
    await ended;
  }
}
