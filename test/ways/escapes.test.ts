/**
 * Example case 25, and more of its kind: images that would write, remove, link or change attributes outside the directory they are unpacked to.
 * What they name on the host is there: a canary, whose every inode is compared before and after, as are the trees.
 */
import { mkdir, readdir, readlink, rm, symlink } from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { unpackImage } from "../../src/mount/unpack-image.js";
import { stampFile } from "../../src/unpack/stamp.js";
import { differences, dumpTree, linesOfTree } from "../support/tree-dump.js";
import { type LayerNotation, layersOf, merge } from "../tree/notation.js";
import { type Canary, makeCanary } from "./canary.js";
import { expectMerged, type ImageLayout, layersIn, unpackModes, writeLayout } from "./four-ways.js";
import { expectRefused } from "./refusals.js";

let host: Canary;

beforeAll(async () => {
  host = await makeCanary();
});

/** One test: the image, for a canary at this path, is the same tree every way, holds these paths, and the canary is as it was. */
function kept(claim: string, imageFor: (canary: string) => LayerNotation[], ...paths: string[]): void {
  it(claim, async () => {
    const before = host.state();
    const image = merge(imageFor(host.canary));
    for (const inside of paths) expect(image.node(inside.replace("CANARY", host.canary)).type).toBeTruthy();
    await expectMerged(image, { umoci: false, destination: host.room });
    expect(host.state()).toEqual(before);
    expect(await readdir(host.room)).toEqual(["canary"]);
  });
}

describe("example 25: what would be written outside by its name", () => {
  kept(
    "with .. parts lies inside",
    (canary) => [["../canary/f", "/../canary/g", "a/../../canary/hello", `../../../../../..${canary}/hello`]],
    "canary/f",
    "canary/g",
    "canary/hello",
    "CANARY/hello",
  );
  kept(
    "as an absolute path lies inside",
    (canary) => [[`${canary}/f`, `/${canary}/hello`]],
    "CANARY/f",
    "CANARY/hello",
  );
  kept(
    "with .. parts, and whited out again, touches nothing outside",
    () => [["../canary/f"], ["../canary/.wh.hello", "../canary/.wh.f", "../canary/.wh..wh..opq"]],
    "canary",
  );
});

describe("example 25: what would be written through a link", () => {
  kept(
    "of the same layer, absolute, lies inside",
    (canary) => [[`l→${canary}`, "l/f", "l/hello", "l/sub/deep"]],
    "CANARY/f",
    "CANARY/hello",
    "CANARY/sub/deep",
  );
  kept(
    "of a lower layer, absolute or relative, lies inside",
    (canary) => [
      [`l→${canary}`, "d/m→../../canary"],
      ["l/hello(new)", "d/m/hello(new)", "l/sub/n/"],
    ],
    "CANARY/hello",
    "canary/hello",
    "CANARY/sub/n",
  );
  kept(
    "by links to links, and by links of procfs, lies inside",
    (canary) => [
      ["a→b", `b→/proc/self/root${canary}`, "c→/proc/self/cwd", "x/y→../a", `r→/../../..${canary}`],
      ["a/hello(new)", "c/f", "x/y/sub/deep(new)", "r/w"],
    ],
    "proc/self/root/CANARY/hello",
    "proc/self/cwd/f",
    "CANARY/w",
  );
  kept("to a file of the host replaces the link, in the same layer and above", (canary) => [
    [`hello→${canary}/hello`, `w→${canary}/w`, "w(new)"],
    [`hello(new)`, "w(newer)"],
  ]);
  kept(
    "whose directories are not there on the host makes none there",
    (canary) => [[`l→${canary}/new/dirs`, "l/f"], ["l/more/g"]],
    "CANARY/new/dirs/more/g",
  );
  kept(
    "that a layer plants, the next writes, the next whites out and the last makes opaque, stays inside",
    (canary) => [[`x→${canary}`], ["x/f", "x/hello"], ["x/.wh.f", "x/.wh.w"], ["x/.wh..wh..opq", "x/n"]],
    "CANARY/n",
  );
  kept(
    "that takes the place of a directory with content lies inside, and so does what follows it",
    (canary) => [["d/", "d/f", "d/hello"], [`d→${canary}`, "d/f(new)"], [".wh.d"], ["d/", "d/hello(last)"]],
    "CANARY/f",
    "d/hello",
  );
});

describe("example 25: what would be removed through a link", () => {
  kept(
    "by a whiteout, or an opaque marker, is what is inside only",
    (canary) => [
      [`l→${canary}`, "m→../canary", `${canary}/hello`, "canary/w"],
      ["l/.wh.hello", "l/sub/.wh.deep", "m/.wh.w", "l/empty/.wh..wh..opq"],
      ["m/.wh..wh..opq", "l/.wh..wh..opq"],
    ],
    "CANARY",
    "canary",
  );
  kept("by a whiteout of the link is the link", (canary) => [[`l→${canary}`, "f"], [".wh.l"]], "f");
  kept(
    "by a file, a directory or a FIFO in the link's place is the link",
    (canary) => [
      [`a→${canary}`, `b→${canary}`, `c→${canary}/fifo`, `e→${canary}/hello`],
      ["a(file)", "b/", "b/hello", { path: "c", type: "fifo" }, "e/hello"],
    ],
    "b/hello",
  );
});

describe("example 25: attributes", () => {
  const loud = { mode: 0o7777, uid: 1234, gid: 1234, mtimeSec: 1, xattrs: { "trusted.x": "y" } };
  kept("of a directory in a link's place are not set where the link led", (canary) => [
    [`d→${canary}`, `e→${canary}/sub`],
    [{ path: "d/", ...loud }, "d/sub/", { path: "e/", ...loud, mode: 0 }],
  ]);
  kept(
    "of a directory that a link replaces are not set where the link leads",
    (canary) => [
      [
        { path: "d/", ...loud },
        "d/f",
        `d→${canary}`,
        { path: "e/", ...loud },
        { path: "e/sub/", ...loud, mode: 0 },
      ],
      [`e→${canary}`, { path: "e/n/", ...loud }],
    ],
    "CANARY/n",
  );
  kept("of a link are not set where it leads", (canary) => [
    [
      { path: "l", link: canary, ...loud },
      { path: "m", link: `${canary}/hello`, ...loud },
      { path: "n", link: "../canary/hello", ...loud, mode: 0 },
    ],
  ]);
  kept("of a hard link to a link are not set where that leads", (canary) => [
    [`l→${canary}/hello`, { path: "h", type: "hardlink", link: "l", ...loud }],
    [
      { path: "i", type: "hardlink", link: "h", ...loud },
      { path: "h", content: "new", ...loud },
    ],
  ]);
  kept(
    "of files written through a link are set inside",
    (canary) => [
      [`l→${canary}`],
      [
        { path: "l/hello", content: "new", ...loud },
        { path: "l/sub/", ...loud },
        { path: "l/fifo", type: "fifo", ...loud },
      ],
    ],
    "CANARY/hello",
  );
});

describe("example 25: a hard link", () => {
  it("to a file of the host is refused, whatever it is spelled", async () => {
    const before = host.state();
    const images: Array<[image: LayerNotation[], target: RegExp]> = [
      [["h=../canary/hello"], /"h" is a hard link to "\.\.\/canary\/hello"/],
      [[`h=${host.canary}/hello`], /"h" is a hard link to "/],
      [["f", "h=/../canary/hello"], /layer 2 of 2, .*"h" is a hard link to/],
      [[`l→${host.canary}`, "h=l/hello"], /layer 2 of 2, .*"h" is a hard link to "l\/hello"/],
      [[`l→${host.canary} h=l/sub`], /"h" is a hard link to "l\/sub"/],
    ];
    for (const [image, message] of images) {
      const layout = await writeLayout(layersIn({ layers: layersOf(image) }));
      await expectRefused(layout, { code: "LAYER_CORRUPT", message, room: host.room });
    }
    expect(host.state()).toEqual(before);
  });

  kept(
    "finds inside what is inside, by the name of something outside",
    (canary) => [
      ["canary/hello(inside)", `${canary}/w(inside)`],
      ["h=../canary/hello", `i=${canary}/w`],
    ],
    "h",
    "i",
  );
});

describe("example 25: a file over a FIFO or a device", () => {
  // /dev/full: who writes into it fails, and who only opens it to write gets no file.
  const full = { type: "character", major: 1, minor: 7, mode: 0o666 } as const;
  kept(
    "takes its place and is not written into it, in the same layer and above",
    () => [
      [{ path: "p", type: "fifo" }, { path: "full", ...full }, { path: "q", type: "fifo" }, "q(file)"],
      [{ path: "r", ...full }, "r(file)", "p(file)", "full(file)"],
    ],
    "p",
    "full",
  );
  kept("takes the place of one name of it, and leaves the other", () => [
    [{ path: "p", type: "fifo" }, "q=p", { path: "full", ...full }, "also-full=full"],
    ["p(file)", "full(file)"],
  ]);
});

describe("example 25: a directory to unpack to", () => {
  /** Everything that leads out, and what would be written there. */
  const escaping = (canary: string): LayerNotation[] => [
    [
      `l→${canary}`,
      "l/hello(new)",
      "../canary/hello(new)",
      "m→../canary",
      "m/sub/deep(new)",
      `n→${canary}/hello`,
    ],
    ["l/.wh.w", "m/.wh..wh..opq", "n(new)", `d/e→${canary}/sub`, "d/e/f"],
  ];

  for (const mode of unpackModes) {
    const at = (name: string) => path.join(host.room, name);
    const unpack = async ({ dir, name }: ImageLayout, directory: string) =>
      await unpackImage({ image: name, directory, mode, settings: { cacheDir: path.join(dir, mode) } });

    it(`that is a link is where the link leads, and the link stays (${mode} mode)`, async () => {
      const before = host.state();
      const image = merge(escaping(host.canary));
      await mkdir(at("real"));
      await symlink("real", at("link"));
      const { directory } = await unpack(await writeLayout(layersIn(image)), at("link"));
      expect(directory).toBe(at("real"));
      expect(await readlink(at("link"))).toBe("real");
      expect(differences(linesOfTree(image, image.contentOf), await dumpTree(at("real")))).toEqual([]);
      expect(host.state()).toEqual(before);
      await removed("link", "real");
    });

    it(`that is a link to what is no image is refused (${mode} mode)`, async () => {
      const before = host.state();
      await symlink("canary", at("link"));
      const unpacking = unpack(await writeLayout(layersIn(merge(escaping(host.canary)))), at("link"));
      await expect(unpacking).rejects.toMatchObject({ code: "USAGE" });
      expect(await readlink(at("link"))).toBe("canary");
      expect(host.state()).toEqual(before);
      await removed("link");
    });

    it(`that has links to the outside is replaced by another image without following them (${mode} mode)`, async () => {
      const before = host.state();
      await unpack(await writeLayout(layersIn(merge(escaping(host.canary)))), at("tree"));
      const next = merge("d/e/f l/hello ../canary/w");
      await unpack(await writeLayout(layersIn(next)), at("tree"));
      expect(differences(linesOfTree(next, next.contentOf), await dumpTree(at("tree")))).toEqual([]);
      expect(host.state()).toEqual(before);
      await removed("tree");
    });
  }

  /** Takes away what a test has made, and asserts that it was all there was, but for the locks of directories, which stay beside them. */
  async function removed(...names: string[]): Promise<void> {
    for (const name of names) await rm(path.join(host.room, name), { recursive: true });
    for (const name of [...names, "canary"]) await rm(stampFile(path.join(host.room, name)), { force: true });
    expect(await readdir(host.room)).toEqual(["canary"]);
  }
});

describe("example 25: an image that is bad at its end", () => {
  it("is taken away without following its links", async () => {
    const before = host.state();
    const good = layersIn(merge([[`l→${host.canary}`, `d/m→${host.canary}/sub`, "l/f", "d/f"]]));
    const bad = { ...layersIn(merge(["x"]))[0]!, diffId: `sha256:${"0".repeat(64)}` };
    await expectRefused(await writeLayout([...good, bad]), {
      code: "DIFF_ID_MISMATCH",
      message: /layer 2 of 2/,
      room: host.room,
    });
    expect(host.state()).toEqual(before);
  });
});
