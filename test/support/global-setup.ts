import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";

/** Tests run the command line from dist/ and the addon from build/: both are made here if `scripts/test.sh` has not. */
export default function setup(): void {
  const root = path.resolve(import.meta.dirname, "../..");
  const run = (command: string, ...args: string[]) =>
    execFileSync(command, args, { cwd: root, stdio: "inherit" });
  const built = (name: string) => existsSync(path.join(root, "native/build/Release", name));
  if (!built("skim.node") || !built("skim-files")) run("npm", "run", "--silent", "build:native");
  if (!existsSync(path.join(root, "dist/bin/skim.js"))) run("npm", "run", "--silent", "build:ts");
}
