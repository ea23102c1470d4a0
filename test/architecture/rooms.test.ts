import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";

/** Bytes flow down this list; a room imports only itself and rooms above it. */
const rooms = [
  "base",
  "native",
  "image",
  "registry",
  "layer",
  "tree",
  "archive",
  "cache",
  "content",
  "profile",
  "filesystem",
  "program",
  "fuse",
  "holder",
  "overlay",
  "unpack",
  "runtime",
  "copy",
  "doctor",
  "mount",
  "control",
  "bench",
  "commands",
];

const source = path.resolve(import.meta.dirname, "../../src");

interface SourceFile {
  readonly name: string;
  readonly text: string;
  readonly imports: readonly string[];
}

const files: SourceFile[] = readdirSync(source, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => {
    const text = readFileSync(path.join(source, name), "utf8");
    const specifiers = [...text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)].map((match) => match[1]!);
    const imports = specifiers.map((specifier) =>
      path.relative(source, path.resolve(source, path.dirname(name), specifier)).replace(/\.js$/, ".ts"),
    );
    return { name, text, imports };
  });

const roomOf = (name: string) => (name.includes("/") ? name.slice(0, name.indexOf("/")) : "");

describe("rooms", () => {
  it("are the ones of the list", () => {
    const found = new Set(files.map((file) => roomOf(file.name)).filter(Boolean));
    expect([...found].filter((room) => !rooms.includes(room))).toEqual([]);
  });

  it("import only upward", () => {
    const below = (room: string, importer: string) =>
      room !== "" && rooms.indexOf(room) > rooms.indexOf(importer);
    const wrong = files
      .filter((file) => roomOf(file.name) !== "")
      .flatMap((file) =>
        file.imports
          .filter((imported) => below(roomOf(imported), roomOf(file.name)))
          .map((imported) => `${file.name} imports ${imported}`),
      );
    expect(wrong).toEqual([]);
  });

  it("have no file that re-exports a room to its neighbours", () => {
    const barrels = files.filter(
      (file) => roomOf(file.name) !== "" && path.basename(file.name) === "index.ts",
    );
    expect(barrels.map((file) => file.name)).toEqual([]);
  });
});

describe("modules", () => {
  it("import only files that are there", () => {
    const names = new Set(files.map((file) => file.name));
    const missing = files.flatMap((file) =>
      file.imports
        .filter((imported) => imported.endsWith(".ts") && !names.has(imported))
        .map((imported) => `${file.name}: ${imported}`),
    );
    expect(missing).toEqual([]);
  });

  it("have no import cycle", () => {
    const byName = new Map(files.map((file) => [file.name, file]));
    const state = new Map<string, "open" | "done">();
    const cycles: string[] = [];
    const visit = (name: string, trail: readonly string[]) => {
      if (state.get(name) === "done") return;
      if (state.get(name) === "open")
        return void cycles.push([...trail.slice(trail.indexOf(name)), name].join(" -> "));
      state.set(name, "open");
      for (const imported of byName.get(name)?.imports ?? []) visit(imported, [...trail, name]);
      state.set(name, "done");
    };
    for (const file of files) visit(file.name, []);
    expect(cycles).toEqual([]);
  });
});

describe("the house bans", () => {
  it("names that say nothing", () => {
    const vague = /(^|\/|-)(utils?|helpers?|manager|common|data|info|misc)(-|\.ts$|\/)/;
    // docker's own word for the programs that keep credentials.
    const term = /(^|\/)credential-helper\.ts$/;
    const names = files.map((file) => file.name).filter((name) => vague.test(name) && !term.test(name));
    expect(names).toEqual([]);
  });

  it("files above 400 lines", () => {
    const long = files.filter((file) => file.text.split("\n").length > 400);
    expect(long.map((file) => file.name)).toEqual([]);
  });

  it("sleeping until something is ready", () => {
    const sleeps = /import \{[^}]*setTimeout[^}]*\} from "node:timers\/promises"/;
    // A wait for another process's flock(2): the kernel tells nobody when it is let go.
    const lock = "cache/file-lock.ts";
    const sleeping = files.filter(
      (file) => sleeps.test(file.text) && roomOf(file.name) !== "registry" && file.name !== lock,
    );
    expect(sleeping.map((file) => file.name)).toEqual([]);
  });
});
