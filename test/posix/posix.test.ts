/**
 * What a read-only tree of files must be like, asked of tmpfs, of ext4 and of mounts of skim: the first two show that a check asks for
 * what is right. The model is go-fuse's posixtest.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { endServers } from "../support/fuse-mount.js";
import { makeTempDir } from "../support/temp-dir.js";
import { attributeChecks } from "./attribute-checks.js";
import { changeChecks } from "./change-checks.js";
import { copyingChecks } from "./copying-checks.js";
import { directoryChecks } from "./directory-checks.js";
import { filesystems, type MountedTree, makeRoom, mountsBelow, unmountBelow } from "./filesystems.js";
import { kernelServiceChecks } from "./kernel-service-checks.js";
import { mappingChecks } from "./mapping-checks.js";
import { nameChecks } from "./name-checks.js";
import { openingChecks } from "./opening-checks.js";
import { posixTree } from "./posix-tree.js";
import { readingChecks } from "./reading-checks.js";
import { specialFileChecks } from "./special-file-checks.js";
import { symlinkChecks } from "./symlink-checks.js";
import { xattrChecks } from "./xattr-checks.js";

const checks = [
  ...attributeChecks,
  ...directoryChecks,
  ...nameChecks,
  ...symlinkChecks,
  ...openingChecks,
  ...readingChecks,
  ...mappingChecks,
  ...copyingChecks,
  ...changeChecks,
  ...xattrChecks,
  ...specialFileChecks,
  ...kernelServiceChecks,
];

let dir = "";

beforeAll(async () => {
  dir = await makeTempDir("posix");
});

afterAll(async () => {
  await endServers();
  await unmountBelow(dir);
});

describe.each(filesystems)("on $name", (filesystem) => {
  let mounted: MountedTree;

  beforeAll(async () => {
    mounted = await filesystem.mount(await makeRoom(dir, filesystem.name), posixTree());
  });

  afterAll(async () => {
    await mounted.unmount();
    expect(await mountsBelow(`${dir}/${filesystem.name}`)).toEqual([]);
  });

  for (const { claim, exceptions, holds } of checks) {
    const exception = exceptions?.[filesystem.name as keyof typeof exceptions];
    if (exception) it.fails(`not: ${claim} (${exception})`, () => holds(mounted.root));
    else it(claim, () => holds(mounted.root));
  }
});
