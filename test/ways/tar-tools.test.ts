/**
 * Layers as other programs write them: GNU tar, bsdtar, Python's tarfile, tar-stream, Go's archive/tar, each in all its formats. What every way
 * gives is held against the files that went in, as the kernel shows them.
 */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import * as tarStream from "tar-stream";
import { beforeAll, describe, expect, it } from "vitest";
import { textOf } from "../../src/base/byte-string.js";
import { makeTempDir } from "../support/temp-dir.js";
import type { DumpLine } from "../support/tree-dump.js";
import { type ComparisonOptions, expectEveryWay } from "./four-ways.js";
import {
  type Group,
  linesWithout,
  linkedOnly,
  makeSourceTree,
  type SourceTree,
  wholeSeconds,
  withoutXattrs,
} from "./source-tree.js";

let source: SourceTree;

beforeAll(async () => {
  source = await makeSourceTree();
});

/** What of the source tree a format cannot hold. */
interface Lost {
  /** Left out of the tar. */
  readonly groups?: readonly Group[];
  /** Times have whole seconds. */
  readonly nanoseconds?: true;
  readonly xattrs?: true;
  /** Types whose hard links are kept; default: all. */
  readonly linked?: readonly string[];
}

interface Made {
  readonly tar: Buffer;
  /** As in the layer; default: gzipped by us. */
  readonly blob?: Buffer;
}

/** One test: a tar of the source tree, without what is lost, is that tree every way. */
function holds(
  claim: string,
  lost: Lost,
  make: (excluded: readonly Group[]) => Promise<Buffer | Made>,
  options: ComparisonOptions = {},
): void {
  it(claim, async () => {
    const made = await make(lost.groups ?? []);
    let expected = linesWithout(source.lines, lost.groups ?? []);
    expect(expected.length).toBeGreaterThan(25);
    if (lost.nanoseconds) expected = wholeSeconds(expected);
    if (lost.xattrs) expected = withoutXattrs(expected);
    if (lost.linked) expected = linkedOnly(expected, lost.linked);
    await expectEveryWay([Buffer.isBuffer(made) ? { tar: made } : made], expected, options);
  });
}

/** What a program writes. Nothing may be left out: it would say so, and does of what matches `permitted` without leaving it out. */
async function output(
  command: string,
  args: readonly string[],
  { locale = "C.UTF-8", permitted = /^$/ } = {},
): Promise<Buffer> {
  const options = {
    encoding: "buffer",
    maxBuffer: 2 ** 28,
    env: { ...process.env, LC_ALL: locale },
  } as const;
  const { stdout, stderr } = await promisify(execFile)(command, args as string[], options);
  expect(stderr.toString("latin1")).toMatch(permitted);
  return stdout;
}

describe("GNU tar", () => {
  const gnuTar =
    (...args: string[]) =>
    (excluded: readonly Group[]) =>
      output("tar", [
        ...["--sort=name", "--numeric-owner", ...args],
        ...excluded.map((group) => `--exclude=./${group}`),
        ...["-C", source.dir, "-cf", "-", "."],
      ]);
  const xattrs = ["--xattrs", "--xattrs-include=*"];
  const linked = ["file", "symlink"];
  const seconds = { nanoseconds: true, xattrs: true, linked } as const;

  holds("--format=pax with --xattrs", { linked }, gnuTar("--format=pax", ...xattrs));
  holds("--format=posix", { xattrs: true, linked }, gnuTar("--format=posix"));
  holds("--format=gnu", seconds, gnuTar("--format=gnu"));
  holds("--format=oldgnu", seconds, gnuTar("--format=oldgnu"));
  holds(
    "--format=ustar",
    { ...seconds, groups: ["long", "owners", "old", "halves"] },
    gnuTar("--format=ustar"),
  );
  holds(
    "--format=v7",
    { ...seconds, groups: ["split", "long", "owners", "old", "halves", "special", "devices"] },
    gnuTar("--format=v7"),
  );
  for (const version of ["0.0", "0.1", "1.0"])
    holds(
      `--sparse --sparse-version=${version} --format=pax with --xattrs`,
      { linked },
      gnuTar("--sparse", `--sparse-version=${version}`, "--format=pax", ...xattrs),
    );
  for (const format of ["gnu", "oldgnu"])
    holds(
      `--sparse --format=${format} (umoci 0.4.7 does not read it)`,
      seconds,
      gnuTar("--sparse", `--format=${format}`),
      { umoci: false },
    );
});

describe("bsdtar", () => {
  const bsdtar =
    (locale: string, ...args: string[]) =>
    (excluded: readonly Group[]) =>
      output(
        "bsdtar",
        [...args, ...excluded.map((group) => `--exclude=./${group}`), "-C", source.dir, "-cf", "-", "."],
        { locale, permitted: /^(: Can't translate (path|link)name '[^']*' to UTF-8)*$/ },
      );

  // It writes -3 s and half a second forward as -3.5.
  const halves = { groups: ["halves"] } as const;
  holds("--format=pax", halves, bsdtar("C.UTF-8", "--format=pax"));
  holds("--format=pax where no locale says what names are", halves, bsdtar("C", "--format=pax"));
  // Nanoseconds stand in it where it has other pax records to write, and only there.
  holds("its default format", halves, bsdtar("C.UTF-8"), { compared: wholeSeconds });
  holds(
    "--format=gnutar",
    { groups: ["old", "halves", "devices"], nanoseconds: true, xattrs: true },
    bsdtar("C.UTF-8", "--format=gnutar", "--no-xattrs"),
  );
  holds(
    "--format=ustar",
    { groups: ["long", "owners", "old", "halves", "devices"], nanoseconds: true, xattrs: true },
    bsdtar("C.UTF-8", "--format=ustar", "--no-xattrs"),
  );
  holds(
    "--format=v7",
    {
      groups: ["split", "long", "owners", "old", "halves", "special", "devices"],
      nanoseconds: true,
      xattrs: true,
    },
    bsdtar("C.UTF-8", "--format=v7", "--no-xattrs"),
  );
});

describe("Python's tarfile", () => {
  const script = `
import sys, tarfile
kind, top, comment, *excluded = sys.argv[1:]
headers = {"comment": comment} if comment else None
out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=getattr(tarfile, kind + "_FORMAT"), pax_headers=headers)
out.add(top, arcname=".", filter=lambda member: None if member.name.removeprefix("./") in excluded else member)
out.close()`;
  const tarfile =
    (format: string, comment = "") =>
    (excluded: readonly Group[]) =>
      output("/usr/bin/python3", ["-c", script, format, source.dir, comment, ...excluded]);
  const linked = ["file"];
  // Its times are floats of seconds: right to a quarter of a microsecond.
  const microseconds = (lines: readonly DumpLine[]) =>
    lines.map((line) => ({ ...line, mtimeNsec: Math.round(line.mtimeNsec / 1000) * 1000 }));

  holds("PAX_FORMAT", { xattrs: true, linked }, tarfile("PAX"), { compared: microseconds });
  holds(
    "PAX_FORMAT with a global header (umoci 0.4.7 does not read it)",
    { xattrs: true, linked },
    tarfile("PAX", "for all entries"),
    { compared: microseconds, umoci: false },
  );
  // It cuts a time of before 1970 to the second that comes next.
  holds("GNU_FORMAT", { groups: ["halves"], nanoseconds: true, xattrs: true, linked }, tarfile("GNU"));
  holds(
    "USTAR_FORMAT",
    { groups: ["long", "owners", "old", "halves"], nanoseconds: true, xattrs: true, linked },
    tarfile("USTAR"),
  );
});

describe("tar-stream", () => {
  const types: Readonly<Record<string, tarStream.Header["type"]>> = {
    character: "character-device",
    block: "block-device",
  };

  /** Packs the source tree by its lines; `recordsOf` gives pax records of a line. */
  async function packed(
    excluded: readonly Group[],
    recordsOf: (line: DumpLine) => Record<string, string>,
  ): Promise<Buffer> {
    const pack = tarStream.pack();
    for (const line of linesWithout(source.lines, excluded)) {
      const name = textOf(line.path)!;
      const file = path.join(source.dir, name);
      const isLink = line.firstName !== line.path;
      const [devmajor = 0, devminor = 0] = line.device ? line.device.split(":").map(Number) : [];
      const header: Partial<tarStream.Header> & { name: string } = {
        name: name || ".",
        type: isLink ? "link" : (types[line.type] ?? (line.type as tarStream.Header["type"])),
        mode: line.mode,
        uid: line.uid,
        gid: line.gid,
        mtime: new Date(Math.max(line.mtimeSec, 0) * 1000),
        linkname: textOf(isLink ? line.firstName : line.linkTarget)!,
        devmajor,
        devminor,
        pax: recordsOf(line),
      };
      if (line.type === "file" && !isLink) pack.entry(header, await readFile(file));
      else pack.entry(header);
    }
    pack.finalize();
    const pieces: Buffer[] = [];
    for await (const piece of pack) pieces.push(piece as Buffer);
    return Buffer.concat(pieces);
  }

  // It takes mode 0 for no mode at all, and writes 0644.
  const compared = (lines: readonly DumpLine[]) =>
    lines.map((line) => (line.path === "plain/nobody reads this" ? { ...line, mode: 0 } : line));

  holds(
    "as it is: ustar, and pax for long names",
    { groups: ["bytes", "owners", "old", "halves", "devices"], nanoseconds: true, xattrs: true },
    (excluded) => packed(excluded, () => ({})),
    { compared },
  );
  holds(
    "with pax records of times and owners",
    { groups: ["bytes", "devices"], xattrs: true },
    (excluded) =>
      packed(excluded, ({ mtimeSec, mtimeNsec, uid, gid }) => ({
        mtime: decimal(BigInt(mtimeSec) * 1_000_000_000n + BigInt(mtimeNsec)),
        uid: `${uid}`,
        gid: `${gid}`,
      })),
    { compared },
  );
});

/** Nanoseconds as seconds with nine digits behind the point. */
function decimal(nanoseconds: bigint): string {
  const digits = (nanoseconds < 0n ? -nanoseconds : nanoseconds).toString().padStart(10, "0");
  return `${nanoseconds < 0n ? "-" : ""}${digits.slice(0, -9)}.${digits.slice(-9)}`;
}

describe("Go's archive/tar", () => {
  /** The layer that `umoci insert` makes of the source tree, as docker and buildah make theirs. */
  async function inserted(): Promise<Made> {
    const layout = path.join(await makeTempDir("insert"), "image");
    const image = ["--image", `${layout}:latest`];
    for (const args of [
      ["init", "--layout", layout],
      ["new", ...image],
      ["insert", ...image, source.dir, "/"],
    ])
      await promisify(execFile)("umoci", args);
    const blob = async (digest: string) => await readFile(path.join(layout, "blobs/sha256", digest.slice(7)));
    const index = JSON.parse(await readFile(path.join(layout, "index.json"), "utf8"));
    const manifest = JSON.parse((await blob(index.manifests[0].digest)).toString());
    const layer = await blob(manifest.layers[0].digest);
    return { tar: gunzipSync(layer), blob: layer };
  }

  // It has times in whole seconds, the nearest ones.
  const rounded = (lines: readonly DumpLine[]) =>
    lines.map(({ mtimeSec, mtimeNsec, ...line }) => ({
      ...line,
      mtimeSec: mtimeSec + Math.round(mtimeNsec / 1_000_000_000),
      mtimeNsec: 0,
    }));

  it("as umoci insert uses it, with hard links of whatever has several names", async () => {
    await expectEveryWay([await inserted()], rounded(source.lines));
  });
});
