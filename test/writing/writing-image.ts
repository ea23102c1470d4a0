import { createCipheriv, createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { type TestImage, writeTestImage } from "../support/oci-layout.js";
import { buildTar, type TarEntrySpec } from "../support/tar-builder.js";

/** Bytes that do not compress, the same for the same seed: what is fetched of them is as long as they are. */
export function noise(seed: string, bytes: number): Buffer {
  const key = createHash("sha256").update(seed).digest().subarray(0, 16);
  return createCipheriv("aes-128-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(bytes));
}

export const textFile = "hello from the image\n";
/** Of each of `tree/d0/f0` to `tree/d3/f7`; their seed is their path. */
export const treeFileBytes = 64 * 1024;
/** Of `files/big`. */
export const bigBytes = 1024 * 1024;
export const mtimeSec = 1_600_000_000;
/** A path of more than 256 bytes from the root: overlayfs notes none that is longer (redirect_max). */
export const deepDirectory = `deep/${Array.from({ length: 6 }, () => "n".repeat(50)).join("/")}`;

export const treePaths = Array.from({ length: 32 }, (_, i) => `tree/d${Math.floor(i / 8)}/f${i % 8}`);

/**
 * The image that tests of writing change: in two layers files of every kind that matters to a copy-up, a tree of incompressible files, and the
 * directories that skim would seed, so that a merged view has the same names as the image. `more` goes into a third layer.
 */
export async function writeWritingImage(
  layout: string,
  more: readonly TarEntrySpec[] = [],
  tag = "latest",
): Promise<TestImage> {
  const busybox = await readFile("/bin/busybox");
  const deepNames = deepDirectory.split("/");
  const base = buildTar([
    ...(["./", "bin/", "dev/", "etc/", "files/", "links/", "tree/"] as const).map((name) => ({ path: name })),
    { path: "proc/", mode: 0o555 },
    { path: "sys/", mode: 0o555 },
    { path: "tmp/", mode: 0o1777 },
    { path: "bin/busybox", content: busybox, mode: 0o755 },
    ...["sh", "cat", "stat", "id"].map((name) => ({ path: `bin/${name}`, link: "busybox" })),
    { path: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\napp:x:1234:1235::/:/bin/sh\n" },
    { path: "etc/group", content: "root:x:0:\napp:x:1235:\n" },
    ...deepNames.map((_, i) => ({ path: `${deepNames.slice(0, i + 1).join("/")}/` })),
    { path: `${deepDirectory}/file`, content: noise("deep", 4096), mtimeSec },
  ]);
  const top = buildTar([
    ...["d0", "d1", "d2", "d3"].map((name) => ({ path: `tree/${name}/`, mtimeSec })),
    ...treePaths.map((path) => ({ path, content: noise(path, treeFileBytes), mtimeSec })),
    ...["append", "cut", "grow", "over", "small", "mapped", "times", "truncated", "opened", "linked"].map(
      (name) => ({ path: `files/${name}`, content: textFile, mtimeSec, mtimeNsec: 123_456_789 }),
    ),
    { path: "files/big", content: noise("big", bigBytes), mtimeSec },
    { path: "files/empty", content: "" },
    { path: "files/setuid", content: busybox, mode: 0o4755 },
    { path: "files/tagged", content: textFile, xattrs: { "user.note": "image", "user.other": "kept" } },
    { path: "links/one", content: noise("hard", treeFileBytes), mtimeSec },
    { path: "links/two", type: "hardlink", link: "links/one" },
    { path: "links/three", type: "hardlink", link: "links/one" },
    { path: "links/symlink", link: "one" },
    { path: "links/dangling", link: "nowhere" },
  ]);
  const layers = [{ tar: base }, { tar: top }, ...(more.length > 0 ? [{ tar: buildTar(more) }] : [])];
  return await writeTestImage(layout, layers, { tag, config: { Env: ["PATH=/bin"], Cmd: ["sh"] } });
}
