import { describe, expect, it } from "vitest";
import { asUmoci, expectAsUmoci, ours } from "./as-umoci.js";
import { merge } from "./notation.js";

describe("type changes", () => {
  const forms = {
    directory: (path: string) => `${path}/ ${path}/child`,
    file: (path: string) => `${path}(file)`,
    symlink: (path: string) => `${path}→other`,
  };
  const listed = {
    directory: (path: string, lower: string) =>
      lower === "directory" ? `${path}/ ${path}/child ${path}/kept` : `${path}/ ${path}/child`,
    file: (path: string) => `${path}(file)`,
    symlink: (path: string) => `${path}→other`,
  };
  for (const lower of ["directory", "file", "symlink"] as const) {
    for (const upper of ["directory", "file", "symlink"] as const) {
      for (const path of ["a", "x/y/z"]) {
        const kept = lower === "directory" ? ` ${path}/kept` : "";
        const parents = path === "a" ? "" : "x/ x/y/ ";
        asUmoci(
          `${path}: a ${upper} over a ${lower}`,
          `${parents}${forms[lower](path)}${kept} ; ${forms[upper](path)}`,
          parents + listed[upper](path, lower),
        );
      }
    }
  }
  asUmoci("a directory over a link to a directory replaces the link", "t/ t/f l→t ; l/ l/g", "l/ l/g t/ t/f");
  asUmoci("a directory over a link to itself replaces the link", "l→l ; l/ l/f", "l/ l/f");
  asUmoci("children of a replaced directory stay gone when it is made again", "d/f ; d ; d/", "d/");
  asUmoci(
    "children of a directory that is replaced and made again in one layer are gone",
    "d/f d d/ d/g",
    "d/ d/g",
  );
  asUmoci("the last of several entries of one name wins", "a(1) a→x a(2) ; b→y b(1) b→z", "a(2) b→z");
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
  ours(
    "a file becomes a directory when an entry stands below it (umoci 0.4.7 fails)",
    "f ; f/a/b",
    "f/ f/a/ f/a/b",
  );
  ours(
    "a FIFO becomes a directory when an entry stands below it",
    [[{ path: "f", type: "fifo" }], "f/a"],
    "f/ f/a",
  );
});

describe("an entry through a symbolic link", () => {
  asUmoci(
    "lands in the target, in the same layer and above",
    "usr/lib/ lib→usr/lib lib/a ; lib/b",
    "lib→usr/lib usr/ usr/lib/ usr/lib/a(lib/a) usr/lib/b(lib/b)",
  );
  asUmoci("goes through links to links", "d/ a→b b→/c c→d ; a/f", "a→b b→/c c→d d/ d/f(a/f)");
  asUmoci("takes an absolute target inside the root", "etc/ l→/etc ; l/f", "etc/ etc/f(l/f) l→/etc");
  asUmoci(
    "takes a target outside inside the root",
    "l→../../../../../etc l/f",
    "etc/ etc/f(l/f) l→../../../../../etc",
  );
  asUmoci(
    "takes .. of a target from where the link really is",
    "a/b/ c→a/b l→c/../x l/f",
    "a/ a/b/ a/x/ a/x/f(l/f) c→a/b l→c/../x",
  );
  asUmoci(
    "makes the directory that a dangling link points at",
    "l→/var/new l/f",
    "l→/var/new var/ var/new/ var/new/f(l/f)",
  );
  asUmoci(
    "makes nothing for parts of a dangling link that .. takes back",
    "l→none/../d l/f",
    "d/ d/f(l/f) l→none/../d",
  );
  ours(
    "that leads to a file makes a directory of the file (umoci 0.4.7 fails)",
    "f l→f ; l/a",
    "f/ f/a(l/a) l→f",
  );
  it("is followed through 40 links, as many as the kernel follows", () => {
    expect(merge(`d/ ${chain(40)} ; l0/f`).node("d/f").type).toBe("file");
  });

  for (const image of [
    "l→l ; l/f",
    "a→b b→a a/f",
    "a→b b→c c→a ; x ; b/d/f",
    "a→a/x a/f",
    `d/ ${chain(41)} ; l0/f`,
  ]) {
    it(`in a circle, or through too many, is an error that names layer and path: ${image.slice(0, 30)}`, () => {
      expect(() => merge(image)).toThrow(
        expect.objectContaining({
          code: "LAYER_CORRUPT",
          message: expect.stringMatching(/^layer \d of \d, .*"[^"]*f" leads through/),
        }),
      );
    });
  }

  it("that would make each of many entries walk a maze of links is stopped", () => {
    const maze = Array.from({ length: 39 }, (_, at) => `m${at}→${"./".repeat(2000)}m${at + 1}`);
    // Each is spelled in another way, so that none is remembered.
    const entries = Array.from({ length: 1500 }, (_, at) => `m0/${"/".repeat(at)}f`);
    expect(() => merge([[...maze, "m39/", ...entries]])).toThrow(
      expect.objectContaining({ code: "LIMIT_EXCEEDED" }),
    );
  });

  it("that would make each of many whiteouts walk a maze of links is stopped too, not passed over", () => {
    const maze = Array.from({ length: 39 }, (_, at) => `m${at}→${"./".repeat(2000)}m${at + 1}`);
    const whiteouts = Array.from({ length: 900 }, (_, at) => `m0/d${at}/.wh.f`);
    expect(() => merge([[...maze, "m39/"], whiteouts])).toThrow(
      expect.objectContaining({ code: "LIMIT_EXCEEDED" }),
    );
  });
});

/** Links l0 to l1 to ... to d: `length` of them. */
function chain(length: number): string {
  return Array.from({ length }, (_, at) => `l${at}→${at + 1 === length ? "d" : `l${at + 1}`}`).join(" ");
}

describe("symbolic links", () => {
  for (const target of ["/abs/olute", "../../../..", "none", ".", "a//b/./c", "x".repeat(4095), "\\ \n"]) {
    it(`are kept as they are: ${JSON.stringify(target.slice(0, 20))}`, async () => {
      const image = merge([[{ path: "l", link: target }]]);
      expect(image.node("l").linkTarget).toBe(target);
      await expectAsUmoci(image);
    });
  }
});

describe("keepDirlinks", () => {
  const keep = { keepDirlinks: true };
  it("sends a directory over a link to a directory, and what is in it, to where the link leads", () => {
    const image = merge(["usr/lib/a lib→usr/lib", [{ path: "lib/", mode: 0o700, uid: 3 }, "lib/b"]], keep);
    expect(image.listing).toBe("lib→usr/lib usr/ usr/lib/ usr/lib/a usr/lib/b(lib/b)");
    expect(image.node("usr/lib")).toMatchObject({ mode: 0o700, uid: 3 });
  });
  it("still replaces a link to anything else", () => {
    expect(merge("f a→f b→none c→c ; a/ b/ c/", keep).listing).toBe("a/ b/ c/ f");
  });
  it("lets a whiteout below a described directory follow the link that stays", () => {
    expect(merge("usr/lib/a lib→usr/lib ; lib/ lib/.wh.a", keep).listing).toBe("lib→usr/lib usr/ usr/lib/");
    expect(merge("usr/lib/a lib→usr/lib ; lib/ lib/.wh.a").listing).toBe("lib/ usr/ usr/lib/ usr/lib/a");
  });
  it("is off by default, and has the listing that umoci has with it", async () => {
    const image = merge("usr/ usr/lib/ usr/lib/a lib→usr/lib ; lib/b", keep);
    await expectAsUmoci(image);
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

  it("with .. are told in a warning each, with layer and path", () => {
    expect(merge("a ; ../b x..y/..z ..c/d h=../a").warnings).toEqual([
      expect.stringMatching(/^layer 2 of 2, sha256:[0-9a-f]{12}\.\.\.: "\.\.\/b" has \.\. parts in its name/),
      expect.stringMatching(/^layer 2 of 2, .*"h" has \.\. parts in its target/),
    ]);
  });

  it("are kept byte by byte", () => {
    const name = Buffer.from([0xff, 0x01, 0x5c, 0x20, 0x0a, 0xc3, 0xa4]);
    expect([...merge([[{ path: name, content: "" }]]).root.children!.keys()]).toEqual([
      name.toString("latin1"),
    ]);
  });
});

describe("the root", () => {
  it("is 0755, 0:0, mtime 0 in an image that says nothing about it, or has no layer", () => {
    const root = { type: "directory", mode: 0o755, uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0, xattrs: [] };
    expect(merge([]).root).toMatchObject(root);
    expect(merge("a ; ; b").root).toMatchObject(root);
  });
  it("has the attributes of the last entry for it, whatever that is spelled", async () => {
    for (const path of ["./", "/", ".", "//./", "a/../"]) {
      const image = merge([["./"], [{ path, type: "directory", mode: 0o711, uid: 5, mtimeSec: 8 }], "a"]);
      expect(image.root).toMatchObject({ mode: 0o711, uid: 5, mtimeSec: 8 });
      if (path === "./") await expectAsUmoci(image);
    }
  });
  for (const type of ["file", "symlink", "hardlink", "fifo"] as const) {
    it(`cannot be a ${type}`, () => {
      const entry = { path: "./", type, ...(type.endsWith("link") ? { link: "etc" } : {}) } as const;
      expect(() => merge(["etc/", [entry]])).toThrow(
        expect.objectContaining({
          code: "LAYER_CORRUPT",
          message: expect.stringMatching(/^layer 2 of 2, .*"\.\/" is a /),
        }),
      );
    });
  }
});
