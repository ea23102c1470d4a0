/** Rules and example cases 14, 17 and 20: types, links on the way, names, the root. test/tree/paths.test.ts has more of each, at the tree alone. */
import { describe, expect, it } from "vitest";
import { merge } from "../tree/notation.js";
import { asUmoci, asUmociButForTimes, expectListing, expectMerged, ours } from "./four-ways.js";

const types = ["directory", "file", "symlink"] as const;

describe("example 14: type changes", () => {
  const forms = {
    directory: (path: string) => [`${path}/`, `${path}/child`],
    file: (path: string) => [`${path}(file)`],
    symlink: (path: string) => [`${path}→other`],
  };

  for (const prefix of ["", "x/y/"]) {
    it(`all nine, ${prefix ? "deep" : "at the root"}`, async () => {
      const lower = prefix ? ["x/", "x/y/"] : [];
      const upper: string[] = [];
      const expected = [...lower];
      for (const below of types)
        for (const above of types) {
          const path = `${prefix}${above}-over-${below}`;
          const kept = below === "directory" ? [`${path}/kept`] : [];
          lower.push(...forms[below](path), ...kept);
          upper.push(...forms[above](path));
          expected.push(...forms[above](path), ...(above === "directory" ? kept : []));
        }
      await expectListing([lower, upper], [...expected].sort().join(" "));
    });
  }

  asUmoci("a directory over a link to a directory replaces the link", "t/ t/f l→t ; l/ l/g", "l/ l/g t/ t/f");
  asUmoci("a directory over a link to itself replaces the link", "l→l ; l/ l/f", "l/ l/f");
  asUmoci(
    "loops of two and of three are links like others, and are replaced like others",
    "a→b b→a c→d d→e e→c k→m m→k ; a/ a/f d(file) c/ c/g",
    "a/ a/f b→a c/ c/g d(file) e→c k→m m→k",
  );
  asUmoci("children of a replaced directory stay gone when it is made again", "d/f d/e/g ; d ; d/", "d/");
  asUmoci(
    "children of a directory that is replaced and made again in one layer are gone",
    "d/f d d/ d/g",
    "d/ d/g",
  );
  asUmoci("the last of several entries of one name wins", "a(1) a→x a(2) ; b→y b(1) b→z", "a(2) b→z");
  ours(
    "a file, a FIFO or a link to a file becomes a directory when an entry stands below it (umoci 0.4.7 fails)",
    [["f", { path: "p", type: "fifo" }, "g", "l→g"], "f/a/b p/a l/a"],
    "f/ f/a/ f/a/b g/ g/a(l/a) l→g p/ p/a",
  );
});

describe("an entry through a symbolic link", () => {
  asUmociButForTimes(
    "lands in the target, in the same layer and above",
    "usr/lib/ lib→usr/lib lib/a ; lib/b lib/c/d",
    "lib→usr/lib usr/ usr/lib/ usr/lib/a(lib/a) usr/lib/b(lib/b) usr/lib/c/ usr/lib/c/d(lib/c/d)",
  );
  asUmoci("goes through links to links", "d/ a→b b→/c c→d ; a/f", "a→b b→/c c→d d/ d/f(a/f)");
  asUmoci(
    "takes an absolute target, and one outside, inside the root",
    "etc/ l→/etc m→../../../../../etc ; l/f m/g",
    "etc/ etc/f(l/f) etc/g(m/g) l→/etc m→../../../../../etc",
  );
  asUmoci(
    "makes the directory that a dangling link points at",
    "l→/var/new l/f",
    "l→/var/new var/ var/new/ var/new/f(l/f)",
  );
  asUmoci(
    "a link replaced by one elsewhere sends later entries there",
    "a/ b/ l→a l/f l→b l/f",
    "a/ a/f(l/f) b/ b/f(l/f) l→b",
  );
  asUmoci(
    "a directory replaced by a link sends later entries of the same directory there",
    "t/ d/ d/a d→t d/b",
    "d→t t/ t/b(d/b)",
  );
});

describe("example 20: targets of symbolic links", () => {
  it("stay as they are, whatever they are", async () => {
    const targets = ["/abs/olute", "../../../..", "none", ".", "a//b/./c", "x".repeat(4095), "\\ \n", "ä€"];
    const image = merge([targets.map((link, at) => ({ path: `d/l${at}`, link }))]);
    expect(image.node("d").children!.size).toBe(targets.length);
    await expectMerged(image);
  });
});

describe("names", () => {
  asUmoci(
    "with / and ./ in front, doubled or at the end are the same names",
    "/a ./b .//c//d /./e/./f/",
    "a(/a) b(./b) c/ c/d(.//c//d) e/ e/f/",
  );
  asUmoci(
    "with .. are folded inside the root",
    "../victim/f /../victim/g a/../../b x/y/../z",
    "b(a/../../b) victim/ victim/f(../victim/f) victim/g(/../victim/g) x/ x/z(x/y/../z)",
  );

  it("are kept byte by byte, and those of 255 bytes and in long paths too", async () => {
    const odd = [
      Buffer.from([0xff, 0x01, 0x5c, 0x20, 0x0a, 0xc3, 0xa4]),
      Buffer.from([0xff, 0x02]),
      Buffer.from("n".repeat(255)),
      Buffer.from(`${"deep/".repeat(60)}${"n".repeat(200)}`),
      Buffer.from("ends in a space "),
      Buffer.from("-rf"),
      Buffer.from("\ufffd"),
      Buffer.from("a\u0308 and \u00e4"),
    ];
    const image = merge([odd.map((path) => ({ path, content: "odd" }))]);
    expect(image.root.children!.size).toBe(odd.length);
    await expectMerged(image);
  });
});

describe("example 17: the root", () => {
  it("has the attributes of its entry in the first layer when the second has none", async () => {
    const image = merge([[{ path: "./", mode: 0o711, uid: 5, gid: 7, mtimeSec: 8 }, "a"], "b"]);
    expect(image.root).toMatchObject({ mode: 0o711, uid: 5, gid: 7, mtimeSec: 8 });
    await expectMerged(image);
  });

  it("has those of the last entry for it, whatever that is spelled", async () => {
    const image = merge([["./"], [{ path: "a/../", type: "directory", mode: 0o750, uid: 5, mtimeSec: 8 }]]);
    expect(image.root).toMatchObject({ mode: 0o750, uid: 5, mtimeSec: 8 });
    await expectMerged(image);
  });

  it("is 0755, 0:0, mtime 0 where no layer says anything about it, and where there is no layer", async () => {
    for (const image of [merge("a"), merge([])]) {
      expect(image.root).toMatchObject({ mode: 0o755, uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0 });
      await expectMerged(image);
    }
  });
});
