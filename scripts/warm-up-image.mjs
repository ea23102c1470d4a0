// A small image as an OCI layout, for the runs that go into the code cache: two gzip layers with what images are made of, and the host's shell as
// its command, with its libraries, so that all of the way is gone.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { buffer } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";

const shell = "/bin/sh";
/** Several spans of it, and not so regular that a window has nothing in it. */
const text = Array.from({ length: 400_000 }, (_, i) => `${(i * 7919) % 100_003}\n`).join("");

export async function writeWarmUpImage(directory) {
  const blobs = path.join(directory, "blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  const addBlob = (mediaType, bytes) => {
    const hex = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(path.join(blobs, hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const tars = [await lowerTar(), await upperTar()];
  const layers = tars.map((tar) => addBlob("application/vnd.oci.image.layer.v1.tar+gzip", gzipSync(tar)));
  const config = {
    architecture: { x64: "amd64" }[process.arch] ?? process.arch,
    os: "linux",
    // Indexing leaves what the shell needs in the cache: the text is what there is to fetch.
    config: { Cmd: [shell, "-c", "read line < /usr/lib/text"], Env: ["PATH=/usr/bin:/bin"] },
    rootfs: {
      type: "layers",
      diff_ids: tars.map((tar) => `sha256:${createHash("sha256").update(tar).digest("hex")}`),
    },
  };
  const manifest = {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: addBlob("application/vnd.oci.image.config.v1+json", Buffer.from(JSON.stringify(config))),
    layers,
  };
  const described = addBlob(manifest.mediaType, Buffer.from(JSON.stringify(manifest)));
  writeFileSync(path.join(directory, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(path.join(directory, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [described] }));
}

async function lowerTar() {
  const tar = pack();
  for (const name of ["etc", "tmp", "usr", "usr/bin", "usr/lib"]) tar.entry({ name, type: "directory" });
  tar.entry({ name: "bin", type: "symlink", linkname: "usr/bin" });
  tar.entry({ name: "usr/lib/text", pax: { "SCHILY.xattr.user.kind": "text" } }, text);
  tar.entry({ name: "usr/bin/sh", mode: 0o755 }, readFileSync(shell));
  tar.entry({ name: "usr/lib/same", type: "link", linkname: "usr/lib/text" });
  for (const library of shellLibraries()) tar.entry({ name: library.slice(1), mode: 0o755 }, readFileSync(library));
  for (let i = 0; i < 200; i++) tar.entry({ name: `usr/lib/${i}` }, `${i}`);
  tar.finalize();
  return await buffer(tar);
}

async function upperTar() {
  const tar = pack();
  tar.entry({ name: "usr/lib/.wh.7" }, "");
  tar.entry({ name: "tmp/.wh..wh..opq" }, "");
  tar.entry({ name: "etc/passwd" }, "root:x:0:0:root:/:/bin/sh\n");
  tar.finalize();
  return await buffer(tar);
}

/** What the shell is loaded with, by the names under which it is looked for; none where there is no ldd, and then the image does not run. */
function shellLibraries() {
  return spawnSync("ldd", [shell], { encoding: "utf8" }).stdout?.match(/\/\S+/g) ?? [];
}
