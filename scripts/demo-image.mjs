/**
 * Makes a real image from what every machine with Node has, as an OCI layout: the node binary with its shared libraries, npm's tree of
 * thousands of files, and a small app. The layers hold the cases that make trees interesting: a whiteout, a hard link, a symlinked
 * directory, a setuid file, a /tmp of mode 1777.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { lstat, mkdir, readdir, readFile, readlink, realpath, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { pack } from "tar-stream";

/** A clock of its own: the same files give the same image. */
const mtime = new Date("2026-01-01T00:00:00Z");

const app = `const semver = require("/usr/lib/node_modules/npm/node_modules/semver");
const os = require("node:os");
console.log("hello from " + os.hostname() + ", node " + process.version + ", semver says " + semver.inc("1.2.3", "minor"));
`;

/**
 * @param {string} directory  of the OCI layout; made
 * @returns {Promise<{ compressedBytes: number, uncompressedBytes: number, files: number }>}
 */
export async function makeDemoImage(directory) {
  await mkdir(path.join(directory, "blobs/sha256"), { recursive: true });
  const layers = [await nodeLayer(directory), await npmLayer(directory), await appLayer(directory)];
  const config = await putBlob(
    directory,
    JSON.stringify({
      architecture: process.arch === "arm64" ? "arm64" : "amd64",
      os: "linux",
      config: {
        Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NODE_ENV=production"],
        Cmd: ["node", "/app/main.js"],
        WorkingDir: "/app",
        User: "app",
      },
      rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.diffId) },
    }),
  );
  const manifest = await putBlob(
    directory,
    JSON.stringify({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: { mediaType: "application/vnd.oci.image.config.v1+json", ...config },
      layers: layers.map(({ digest, size }) => ({ mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest, size })),
    }),
  );
  await writeFile(path.join(directory, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(
    path.join(directory, "index.json"),
    JSON.stringify({
      schemaVersion: 2,
      manifests: [
        {
          mediaType: "application/vnd.oci.image.manifest.v1+json",
          ...manifest,
          annotations: { "org.opencontainers.image.ref.name": "latest" },
        },
      ],
    }),
  );
  const sum = (/** @type {"size" | "uncompressedBytes" | "files"} */ key) => layers.reduce((total, layer) => total + layer[key], 0);
  return { compressedBytes: sum("size"), uncompressedBytes: sum("uncompressedBytes"), files: sum("files") };
}

/** Base: directories, accounts, node and every library it loads. `/lib` and `/lib64` are links into /usr, as on Debian. */
async function nodeLayer(directory) {
  const layer = new LayerWriter(directory);
  for (const [name, mode] of [["tmp", 0o1777], ["root", 0o700], ["etc", 0o755], ["usr/bin", 0o755], ["usr/lib", 0o755], ["usr/lib64", 0o755], ["app", 0o755]]) {
    layer.directory(String(name), Number(mode));
  }
  for (const name of ["bin", "lib", "lib64"]) layer.symlink(name, `usr/${name}`);
  layer.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/app:/bin/sh\n");
  layer.file("etc/group", "root:x:0:\napp:x:1000:\n");
  layer.file("etc/motd", "a later layer removes this\n");
  const node = await realpath(process.execPath);
  await layer.copy(node, "usr/bin/node", 0o755);
  for (const library of sharedLibraries(node)) await layer.copy(await realpath(library), library.replace(/^\/(lib(64)?)\//, "usr/$1/").replace(/^\//, ""), 0o755);
  await layer.copy(await realpath("/bin/true"), "usr/bin/setuid-true", 0o4755);
  return await layer.finish();
}

/** Thousands of small files, most of which a start never reads. */
async function npmLayer(directory) {
  const layer = new LayerWriter(directory);
  const npmRoot = execFileSync("npm", ["root", "-g"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  await layer.copyTree(path.join(npmRoot, "npm"), "usr/lib/node_modules/npm");
  return await layer.finish();
}

async function appLayer(directory) {
  const layer = new LayerWriter(directory);
  layer.file("app/main.js", app);
  layer.hardLink("app/main-again.js", "app/main.js");
  layer.file("etc/.wh.motd", "");
  return await layer.finish();
}

/** Every file that the dynamic linker would map, the linker itself included. */
function sharedLibraries(binary) {
  const output = execFileSync("ldd", [binary], { encoding: "utf8" });
  return [...output.matchAll(/(?:=>\s*)?(\/\S+)\s+\(0x/g)].map((match) => match[1]);
}

class LayerWriter {
  #pack = pack();
  #directory;
  #file;
  #diffId = createHash("sha256");
  #blob = createHash("sha256");
  #uncompressedBytes = 0;
  #size = 0;
  #files = 0;
  #made = new Set();
  #written;

  constructor(directory) {
    this.#directory = directory;
    this.#file = path.join(directory, `blobs/sha256/layer-${Math.random().toString(36).slice(2)}.new`);
    const count = (hash, add) =>
      new Transform({
        transform(chunk, _encoding, done) {
          hash.update(chunk);
          add(chunk.length);
          done(null, chunk);
        },
      });
    this.#written = pipeline(
      this.#pack,
      count(this.#diffId, (bytes) => { this.#uncompressedBytes += bytes; }),
      createGzip(),
      count(this.#blob, (bytes) => { this.#size += bytes; }),
      createWriteStream(this.#file),
    );
  }

  #add(header, content) {
    this.#files++;
    this.#pack.entry({ mtime, uid: 0, gid: 0, ...header }, content);
  }

  directory(name, mode) {
    this.#made.add(name);
    this.#add({ name: `${name}/`, type: "directory", mode });
  }
  symlink(name, linkname) {
    this.#add({ name, type: "symlink", linkname, mode: 0o777 });
  }
  hardLink(name, linkname) {
    this.#add({ name, type: "link", linkname });
  }
  file(name, content, mode = 0o644) {
    this.#add({ name, mode }, content);
  }
  async copy(from, name, mode) {
    this.file(name, await readFile(from), mode);
  }

  async copyTree(from, to) {
    if (!this.#made.has(to)) this.directory(to, 0o755);
    for (const name of (await readdir(from)).sort()) {
      const [source, target] = [path.join(from, name), `${to}/${name}`];
      const found = await lstat(source);
      if (found.isDirectory()) await this.copyTree(source, target);
      else if (found.isSymbolicLink()) this.symlink(target, await readlink(source));
      else if (found.isFile()) await this.copy(source, target, found.mode & 0o777);
    }
  }

  async finish() {
    this.#pack.finalize();
    await this.#written;
    const hex = this.#blob.digest("hex");
    await rename(this.#file, path.join(this.#directory, "blobs/sha256", hex));
    return {
      digest: `sha256:${hex}`,
      diffId: `sha256:${this.#diffId.digest("hex")}`,
      size: this.#size,
      uncompressedBytes: this.#uncompressedBytes,
      files: this.#files,
    };
  }
}

async function putBlob(directory, text) {
  const hex = createHash("sha256").update(text).digest("hex");
  await writeFile(path.join(directory, "blobs/sha256", hex), text);
  return { digest: `sha256:${hex}`, size: Buffer.byteLength(text) };
}
