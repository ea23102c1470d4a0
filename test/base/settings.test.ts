import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { exampleSettingsFile } from "../../src/base/example-settings.js";
import { parseMirrors } from "../../src/base/mirror-settings.js";
import { describeSettings, resolveSettings } from "../../src/base/settings.js";
import { settingNames, settingsTable } from "../../src/base/settings-table.js";
import { makeTempDir } from "../support/temp-dir.js";

async function settingsFile(content: unknown): Promise<string> {
  const file = path.join(await makeTempDir("settings"), "config.json");
  writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
  return file;
}

describe("the settings file", () => {
  it("gives way to the environment, which gives way to options", async () => {
    const file = await settingsFile({ cacheDir: "/file", runDir: "/file-run", spanBytes: 131072 });
    const environment = { SKIM_CONFIG: file, SKIM_CACHE_DIR: "/environment", SKIM_SPAN_BYTES: "262144" };
    const resolved = resolveSettings({ spanBytes: 524288 }, environment);
    expect(resolved).toMatchObject({ cacheDir: "/environment", runDir: "/file-run", spanBytes: 524288 });
    expect(resolved.readDeadlineMs).toBe(60_000);
  });

  it("takes every setting there is", async () => {
    const values = {
      cacheDir: "/c",
      runDir: "/r",
      spanBytes: 65536,
      attemptTimeoutMs: 1,
      mirrorTimeoutMs: 2,
      readDeadlineMs: 3,
      memoryCacheBytes: 0,
      imageIdleMs: 0,
      mountQueueMax: 4,
      watchdogMs: 1500,
      cacheBytesMax: "20GiB",
      cacheFreeBytesMin: "3%",
      insecureRegistries: ["a.test:5000"],
      mirrors: { "ghcr.io": ["https://m.test"] },
      layerUncompressedBytesMax: 5,
      layerEntriesMax: 6,
      layerRatioMax: 7.5,
    };
    expect(Object.keys(values).sort()).toEqual([...settingNames].sort());
    expect(resolveSettings({}, {}, await settingsFile(values))).toEqual(values);
  });

  it("may be empty, and is not needed at all unless it is named", async () => {
    expect(resolveSettings({}, {}, await settingsFile("\n"))).toEqual(resolveSettings({}, {}));
    expect(resolveSettings({}, {}, "/dev/null")).toEqual(resolveSettings({}, {}));
    expect(() => resolveSettings({}, {}, "/nowhere/skim.json")).toThrow(/\/nowhere\/skim.json: not there/);
    expect(() => resolveSettings({}, { SKIM_CONFIG: "/nowhere/x" })).toThrow(
      expect.objectContaining({ code: "NOT_FOUND" }),
    );
  });

  it("is not read where the caller has settled everything", () => {
    const settled = resolveSettings({}, {}, "/dev/null");
    expect(resolveSettings(settled, { SKIM_CONFIG: "/nowhere" })).toEqual(settled);
  });

  it.each([
    ["cacheDri", "cacheDir"],
    ["CacheDir", "cacheDir"],
    ["cache_dir", "cacheDir"],
    ["SKIM_RUN_DIR", "runDir"],
    ["--cache-dir", "cacheDir"],
    ["mirror", "mirrors"],
    ["insecureRegistry", "insecureRegistries"],
    ["readDeadline", "readDeadlineMs"],
  ])("says what %j should have been", async (typed, meant) => {
    const file = await settingsFile({ [typed]: 1 });
    expect(() => resolveSettings({}, {}, file)).toThrow(
      `settings file ${file}: there is no setting ${JSON.stringify(typed)}; did you mean ${JSON.stringify(meant)}?`,
    );
  });

  it("lists what there is to set where a key resembles nothing", async () => {
    const file = await settingsFile({ favouriteColour: "blue" });
    expect(() => resolveSettings({}, {}, file)).toThrow(
      /favouriteColour.*the settings are cacheDir, runDir,/,
    );
  });

  it.each([
    ["{", /is not JSON/],
    ["[]", /is not a JSON object/],
    ["null", /is not a JSON object/],
    ['{"spanBytes": 12}', /setting spanBytes \(in .*config.json\)/],
    ['{"spanBytes": null}', /setting spanBytes/],
    ['{"readDeadlineMs": true}', /setting readDeadlineMs/],
    ['{"readDeadlineMs": -1}', /setting readDeadlineMs/],
    ['{"cacheDir": 7}', /setting cacheDir/],
    ['{"insecureRegistries": [1]}', /setting insecureRegistries .*: 0: /],
    ['{"mirrors": {"docker.io": "https://m.test"}}', /setting mirrors .*: docker.io: /],
    ['{"mirrors": {"docker.io": ["ftp://m.test"]}}', /docker.io, 0: "ftp:\/\/m.test" is not an http/],
  ])("with %s is refused in one line", async (text, message) => {
    const file = await settingsFile(text);
    const refuse = () => resolveSettings({}, {}, file);
    expect(refuse).toThrow(message);
    expect(refuse).toThrow(
      expect.objectContaining({ code: "USAGE", message: expect.not.stringContaining("\n") }),
    );
  });

  it("may have lines that are comments, and says the line of what is wrong all the same", async () => {
    const text = '// Settings.\n{\n  // Where.\n\t// "cacheDir": "/a",\n  "cacheDir": "/b//c"\n}\n';
    expect(resolveSettings({}, {}, await settingsFile(text)).cacheDir).toBe("/b/c");
    expect(resolveSettings({}, {}, await settingsFile("// nothing yet\n")).cacheDir).toBe("/var/lib/skim");
    const behindValue = await settingsFile('{ "cacheDir": "/b" // here\n}');
    expect(() => resolveSettings({}, {}, behindValue)).toThrow(/is not JSON/);
  });

  it("that cannot be read is said to be so", async () => {
    const directory = path.join(await makeTempDir("settings"), "dir");
    mkdirSync(directory);
    expect(() => resolveSettings({}, {}, directory)).toThrow(expect.objectContaining({ code: "LOCAL_IO" }));
  });
});

describe("the environment", () => {
  it.each([
    ["SKIM_CACHEDIR", "SKIM_CACHE_DIR"],
    ["SKIM_CACHE_DIRS", "SKIM_CACHE_DIR"],
    ["SKIM_MIRROR", "SKIM_MIRRORS"],
    ["SKIM_READ_DEADLINE", "SKIM_READ_DEADLINE_MS"],
    ["SKIM_CONFG", "SKIM_CONFIG"],
  ])("with %s is told of %s", (typed, meant) => {
    expect(() => resolveSettings({}, { [typed]: "1" }, "/dev/null")).toThrow(
      expect.objectContaining({
        code: "USAGE",
        message: `environment: there is no setting ${typed}; did you mean ${meant}?`,
      }),
    );
  });

  it("may have variables that are no settings of ours", () => {
    const environment = { SKIM_DEBUG: "1", SKIM_SERVICE_HOST: "10.0.0.7", SKIM_PORT: "tcp://10.0.0.7:80" };
    expect(resolveSettings({}, environment, "/dev/null")).toEqual(resolveSettings({}, {}, "/dev/null"));
  });
});

describe("the example of a settings file", () => {
  const file = path.resolve(import.meta.dirname, "../../scripts/host/config.json");

  it("is made from the table of settings: node scripts/host/generate.mjs writes it", () => {
    expect(readFileSync(file, "utf8")).toBe(exampleSettingsFile());
  });

  it("names every setting with its default", () => {
    const json = readFileSync(file, "utf8").replace(/^\s*\/\/.*$/gm, "");
    expect(Object.keys(JSON.parse(json))).toEqual(settingNames);
    expect(resolveSettings({}, {}, file)).toEqual(resolveSettings({}, {}, "/dev/null"));
  });
});

describe("mirrors", () => {
  it("are ordered lists by registry, in every way they can be written", async () => {
    const wanted = { "docker.io": ["https://a.test", "b.test:5000"], "ghcr.io": ["https://c.test/proxy"] };
    const texts = ["docker.io=https://a.test,b.test:5000", "ghcr.io=https://c.test/proxy"];
    expect(parseMirrors(texts)).toEqual(wanted);
    expect(parseMirrors(["docker.io=https://a.test", "Docker.io=b.test:5000", texts[1]!])).toEqual(wanted);
    for (const separator of [" ", ";", "\n"])
      expect(resolveSettings({}, { SKIM_MIRRORS: texts.join(separator) }).mirrors).toEqual(wanted);
    expect(resolveSettings({}, {}, await settingsFile({ mirrors: wanted })).mirrors).toEqual(wanted);
    expect(resolveSettings({ mirrors: wanted }, { SKIM_MIRRORS: "x=y" }).mirrors).toEqual(wanted);
  });

  it("of Docker Hub are found under each of its names", () => {
    const mirrors = parseMirrors(["index.docker.io=https://a.test", "registry-1.docker.io=https://b.test"]);
    expect(mirrors).toEqual({ "docker.io": ["https://a.test", "https://b.test"] });
  });

  it.each([
    ["docker.io", /REGISTRY=URL/],
    ["=https://a.test", /REGISTRY=URL/],
    ["docker.io=", /REGISTRY=URL/],
    ["docker.io=https://", /not a URL/],
    ["docker.io=https://a.test/v2/", /leave out \/v2/],
    ["docker.io=https://user:hunter2@a.test", /config.json/],
    ["docker.io=https://a.test?token=hunter2", /more than a host and a path/],
    ["docker.io https://user:hunter2@a.test", /REGISTRY=URL/],
  ])("that are written %j are refused, and no secret repeated", (text, message) => {
    for (const refuse of [() => parseMirrors([text]), () => resolveSettings({}, { SKIM_MIRRORS: text })]) {
      expect(refuse).toThrow(message);
      expect(refuse).not.toThrow(/hunter2/);
    }
  });
});

/** The README's table, made from the code. */
function settingsMarkdown(): string {
  const rows = describeSettings().map(({ name, environment, flag, byDefault, meaning }) => {
    const shown = typeof byDefault === "object" ? "" : `\`${byDefault}\``;
    return `| \`${name}\` | \`${environment}\` | ${flag ? `\`${flag}\`` : ""} | ${shown} | ${meaning} |`;
  });
  return ["| key | environment | flag | default | meaning |", "|---|---|---|---|---|", ...rows].join("\n");
}

describe("the table of settings", () => {
  it("is the one of the README", () => {
    const readme = readFileSync(path.resolve(import.meta.dirname, "../../README.md"), "utf8");
    expect(/^\| key \| environment[\s\S]*?(?=\n\n)/m.exec(readme)?.[0]).toBe(settingsMarkdown());
  });

  it("describes each with its names and default", () => {
    const described = describeSettings();
    expect(described.map(({ name }) => name)).toEqual(settingNames);
    for (const { name, environment, meaning, byDefault } of described) {
      expect(environment).toBe(`SKIM_${name.replace(/[A-Z]/g, "_$&").toUpperCase()}`);
      expect(meaning).toMatch(/\.$/);
      expect(settingsTable[name].schema.parse(byDefault)).toEqual(byDefault);
    }
  });
});
