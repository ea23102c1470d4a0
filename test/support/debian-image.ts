import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";

const root = path.resolve(import.meta.dirname, "../..");

/**
 * The OCI layout with the Debian image (Python, numpy), made on first use and kept in the checkout. For hooks only: it takes half a minute, on a busy machine more
 * than a test has.
 */
export async function debianLayout(): Promise<string> {
  const layout = path.join(root, ".fixtures/debian-image");
  await promisify(execFile)(path.join(root, "scripts/make-debian-image.sh"), [layout], {
    maxBuffer: 2 ** 24,
  });
  return layout;
}
