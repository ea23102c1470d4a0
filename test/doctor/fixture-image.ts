/** Images for the doctor, made of tar entries: what is wrong with each is what a test says of it. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { expect } from "vitest";
import type { Examination, ExaminedCheck } from "../../src/doctor/examine.js";
import { type ExamineImageOptions, examineImage } from "../../src/mount/examine-image.js";
import { type TestImageOptions, type TestLayer, writeTestImage } from "../support/oci-layout.js";
import { type CliResult, makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import { buildTar, type TarEntrySpec } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";

export const busybox: TarEntrySpec = {
  path: "bin/busybox",
  content: readFileSync("/bin/busybox"),
  mode: 0o755,
};

/** Busybox with these applets, in /bin, and the directories that images have. */
export function busyboxTree(...applets: string[]): TarEntrySpec[] {
  return [
    { path: "bin/", mode: 0o755 },
    busybox,
    ...applets.map((name): TarEntrySpec => ({ path: `bin/${name}`, link: "busybox" })),
    { path: "tmp/", mode: 0o1777 },
    { path: "etc/" },
    { path: "etc/passwd", content: "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n" },
    { path: "etc/group", content: "root:x:0:\napp:x:1000:\nextra:x:50:app\n" },
    { path: "root/", mode: 0o700 },
    { path: "home/app/", uid: 1000, gid: 1000 },
  ];
}

export const loaderPath = "/lib64/ld-linux-x86-64.so.2";

/** A file of this host, which is Debian on x86-64, at the same path, symlinks resolved. */
export function hostFile(file: string, at = file): TarEntrySpec {
  return { path: at.slice(1), content: readFileSync(file), mode: 0o755 };
}

/** What a dynamic program of this host needs besides itself. */
export const glibcTree: TarEntrySpec[] = [hostFile(loaderPath), hostFile("/lib/x86_64-linux-gnu/libc.so.6")];

export interface FixtureOptions extends TestImageOptions {
  readonly layers?: readonly TestLayer[];
}

export interface Fixture {
  /** For the command line. */
  readonly image: string;
  examine(options?: Partial<ExamineImageOptions>): Promise<Examination>;
  /** The findings of one check. */
  check(id: string, options?: Partial<ExamineImageOptions>): Promise<ExaminedCheck[]>;
  /** `skim run` of it. */
  run(...args: string[]): Promise<CliResult>;
}

let host: Promise<SkimHost> | undefined;

/** Where the fixtures of a test file are run. */
export function fixtureHost(): Promise<SkimHost> {
  host ??= makeSkimHost();
  return host;
}

export async function makeFixture(
  entries: readonly TarEntrySpec[],
  config: Record<string, unknown> = {},
  options: FixtureOptions = {},
): Promise<Fixture> {
  const dir = await makeTempDir("doctor");
  const layout = path.join(dir, "image");
  const { layers = [{ tar: buildTar(entries) }], ...imageOptions } = options;
  await writeTestImage(layout, layers, { ...imageOptions, config });
  const image = `oci:${layout}`;
  // What the doctor has indexed is there for the run.
  const { cacheDir } = await fixtureHost();
  const settings = { cacheDir };
  const examine: Fixture["examine"] = (more = {}) => examineImage({ image, settings, ...more });
  return {
    image,
    examine,
    check: async (id, more) => (await examine(more)).checks.filter((check) => check.id === id),
    run: async (...args) => {
      const host = await fixtureHost();
      const at = args.indexOf("--");
      const [flags, command] = at < 0 ? [args, []] : [args.slice(0, at), args.slice(at)];
      return await host.run(["run", ...flags, image, ...command]);
    },
  };
}

/** Ids of checks that failed, each once. */
export function failed({ checks }: Examination): string[] {
  return [...new Set(checks.filter(({ status }) => status === "fail").map(({ id }) => id))];
}

export function expectNoFailure(examination: Examination): void {
  expect(examination.checks.filter(({ status }) => status === "fail")).toEqual([]);
}

/** Compiles C for this host. */
export function compile(source: string, output: string, ...flags: string[]): void {
  execFileSync("gcc", ["-o", output, "-x", "c", "-", "-x", "none", ...flags], { input: source });
}
