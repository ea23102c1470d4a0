/**
 * Drafts of tar members. A draft names the path that it means to hide or to link by a number, as an earlier or later draft may be
 * taken away; random-layers.ts makes members of drafts. So every list of drafts is a layer that mostly means something, and stays one
 * while fast-check shrinks it.
 */
import fc from "fast-check";

/**
 * "visible to all": without what some kernel, filesystem or engine does not show as it is (SEMANTICS.md), but for names:
 * attributes beyond what ext4 takes, attribute names and symlink targets that are not UTF-8, times beyond ext4's.
 */
export type StackKind = "anything" | "visible to all";

/** Few, so that members meet. */
const plainNames = ["a", "b", "c", "d"] as const;
const oddNames = [
  "n".repeat(255),
  "x".repeat(101),
  "new\nline",
  " ",
  "back\\slash",
  "-dash",
  ".wh",
  "wh.a",
  "a.wh.b",
  "...",
  "\xc3\xbc",
] as const;
const namesNotUtf8 = ["\xff\xfe", "caf\xe9"] as const;

function pathOf(odd: readonly string[]): fc.Arbitrary<string[]> {
  const name = fc.oneof(weighted(16, fc.constantFrom(...plainNames)), fc.constantFrom(...odd));
  return fc.oneof(weighted(4, fc.tuple(name)), weighted(4, fc.tuple(name, name)), fc.tuple(name, name, name));
}

const parts = pathOf([...oddNames, ...namesNotUtf8]);
const mode = fc.oneof(
  fc.constantFrom(0o755, 0o644, 0, 0o555, 0o4755, 0o2755, 0o1777, 0o7777),
  fc.nat(0o7777),
);
const owner = fc.oneof(fc.constantFrom(0, 1000, 65_534, 0o10000000, 2 ** 32 - 2), fc.nat(70_000));
/** At its very first second, -2^31, a filesystem has no fractions (timestamp_truncate of the kernel). */
const timesOfExt4 = fc.constantFrom(1_700_000_000, 0, -1, 1, 1 - 2 ** 31, 2 ** 31, 2 ** 33);
const allTimes = fc.oneof(timesOfExt4, fc.integer({ min: -(2 ** 34), max: 2 ** 34 }));

/** VFS_CAP_REVISION_2, cap_net_raw: the kernel shows nothing under this name that it does not understand. */
const capability = Buffer.from("0100000200200000000000000000000000000000", "hex").toString("latin1");
const xattrNames = [
  ...["user.a", "user.b", "user.overlayed", "user.\xc3\xbc", "trusted.a", "security.a"],
  ...["trusted.overlay.opaque", "user.overlay.redirect", "trusted.overlay.overlay.opaque"],
  ...["security.selinux", "system.nfs4_acl"],
];
const xattrNamesOfTars = ["system.posix_acl_access", "a", "user.\xff"];
const xattrValue = fc.oneof(
  fc.constantFrom("", "y", "\0\xff\n=", "12 user.b=1\n"),
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString("latin1")),
);

function xattrsOf(kind: StackKind): fc.Arbitrary<Array<readonly [name: string, value: string]>> {
  const names = kind === "anything" ? [...xattrNames, ...xattrNamesOfTars] : xattrNames;
  const one = fc.tuple(fc.constantFrom(...names), xattrValue);
  const large = fc.constant(["user.large", "v".repeat(65_536)] as const);
  return fc.array(
    fc.oneof(
      weighted(30, one),
      weighted(3, fc.constant(["security.capability", capability] as const)),
      kind === "anything" ? large : one,
    ),
    { maxLength: 3 },
  );
}

const bytes = fc.oneof(fc.constantFrom(3, 0, 1, 511, 512, 513, 1024, 70_000), weighted(3, fc.nat(2000)));
const pieces = fc.array(
  fc.record({
    gap: fc.constantFrom(1, 0, 511, 512, 4096, 60_000),
    length: fc.constantFrom(1, 511, 512, 513, 4096),
  }),
  { maxLength: 7 },
);
/** Of a path among those that there are: modulo their number. */
const pick = fc.nat(5000);

export type SparseFormat = "pax 1.0" | "pax 0.1" | "pax 0.0" | "old GNU";

/** One of all kinds, each as often as its weight says, which are out of 500 or so. */
export function randomDraft(kind: StackKind) {
  const target = kind === "anything" ? parts : pathOf(oddNames);
  const mtimeSec = kind === "anything" ? allTimes : timesOfExt4;
  const described = {
    parts,
    pick,
    place: fc.constantFrom(
      ...([
        "as drawn",
        "as drawn",
        "as drawn",
        "as drawn",
        "as drawn",
        "below a link",
        "at a known path",
      ] as const),
    ),
    spelling: fc.oneof(weighted(20, fc.constant("")), fc.constantFrom("./", "/", "//./", "../", "b/../")),
    format: fc.constantFrom("ustar" as const, "gnu" as const),
    attributes: fc.record({
      mode,
      uid: owner,
      gid: owner,
      mtimeSec,
      mtimeNsec: fc.constantFrom(0, 1, 500_000_000, 999_999_999),
      xattrs: xattrsOf(kind),
    }),
  };
  const file = fc.record({ kind: fc.constant("file" as const), ...described, bytes });
  const sparse = fc.record({
    kind: fc.constant("sparse" as const),
    ...described,
    pieces,
    tail: fc.constantFrom(0, 1, 5000),
    sparseFormat: fc.constantFrom<SparseFormat[]>("pax 1.0", "pax 0.1", "pax 0.0", "old GNU"),
  });
  const directory = fc.record({
    kind: fc.constant("directory" as const),
    ...described,
    slash: fc.constantFrom(true, true, true, false),
  });
  const device = fc.record({
    kind: fc.constant("device" as const),
    ...described,
    type: fc.constantFrom("fifo" as const, "character" as const, "block" as const),
    major: fc.constantFrom(1, 0, 4095),
    minor: fc.constantFrom(3, 0, 255, 1_048_575),
  });
  const symlink = fc.record({
    kind: fc.constant("symlink" as const),
    ...described,
    target,
    // Links to a name behind their own, or to what is there, lead in no circle.
    to: fc.constantFrom(
      ...(["a name ahead", "a name ahead", "a directory", "a directory", "a directory", "any name"] as const),
    ),
    form: fc.oneof(weighted(4, fc.constant("")), fc.constantFrom("/", "../", "../../../../", "long")),
  });
  const hardlink = fc.record({
    kind: fc.constant("hardlink" as const),
    ...described,
    target,
    astray: chance(1, 40),
  });
  const whiteout = fc.record({
    kind: fc.constant("whiteout" as const),
    ...described,
    of: fc.constantFrom("known", "known", "below a link", "below a link", "any" as const),
    asLink: chance(1, 10),
  });
  const opaque = fc.record({
    kind: fc.constant("opaque" as const),
    ...described,
    of: fc.constantFrom("known", "known", "known", "root", "any" as const),
  });
  const root = fc.record({ kind: fc.constant("root" as const), ...described, wrong: chance(1, 30) });
  const aufs = fc.record({
    kind: fc.constant("aufs" as const),
    ...described,
    bytes,
    linkFirst: fc.boolean(),
  });
  const falseMarker = fc.record({
    kind: fc.constant("false marker" as const),
    ...described,
    type: fc.constantFrom("directory" as const, "fifo" as const, "symlink" as const),
    opaque: chance(1, 3),
  });
  const refused = fc.record({
    kind: fc.constant("refused" as const),
    ...described,
    name: fc.constantFrom(".wh.", ".wh..", ".wh...", "l".repeat(256), `.wh.${"l".repeat(256)}`),
  });
  return fc.oneof(
    weighted(130, file),
    weighted(80, directory),
    weighted(60, hardlink),
    weighted(60, whiteout),
    weighted(45, symlink),
    weighted(20, opaque),
    weighted(20, sparse),
    weighted(20, device),
    weighted(10, root),
    weighted(10, aufs),
    weighted(10, falseMarker),
    weighted(1, refused),
  );
}

export type Draft = ReturnType<typeof randomDraft> extends fc.Arbitrary<infer Drawn> ? Drawn : never;

function weighted<Drawn>(weight: number, arbitrary: fc.Arbitrary<Drawn>) {
  return { weight, arbitrary };
}

/** True `times` of `all`; shrinks towards what is usual. */
function chance(times: number, all: number): fc.Arbitrary<boolean> {
  const usual = times * 2 > all;
  const rare = usual ? all - times : times;
  return fc.oneof(weighted(all - rare, fc.constant(usual)), weighted(rare, fc.constant(!usual)));
}
