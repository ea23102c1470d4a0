/**
 * Who owns what is unpacked. Root gives files to their owners. Anybody else cannot; then owner and mode are kept in an extended attribute, in the
 * form that containers/storage and fuse-overlayfs read: `user.containers.override_stat`, "uid:gid:mode" with the mode in octal.
 */
import { readFileSync } from "node:fs";
import { type ByteString, byteStringFromText } from "../base/byte-string.js";
import type { TreeNode } from "../tree/image-tree.js";
import type { Attributes } from "./instructions.js";

export type Ownership = "kept" | "recorded";

const overrideXattr = byteStringFromText("user.containers.override_stat");

/** Bits of CapEff (capabilities(7)). */
const CAP_CHOWN = 0n;
const CAP_FOWNER = 3n;
const CAP_DAC_OVERRIDE = 1n;

/** "kept" for whoever may give files to any owner: root, but not root of a user namespace that has only some of the ids. */
export function possibleOwnership(): Ownership {
  const effective = BigInt(
    `0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? "0"}`,
  );
  const able = [CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER].every((bit) => (effective >> bit) & 1n);
  const everyId = ["uid_map", "gid_map"].every((map) =>
    /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync(`/proc/self/${map}`, "latin1")),
  );
  return able && everyId ? "kept" : "recorded";
}

/**
 * What to set of a file so that it is as `node` says, as far as `ownership` allows. `lost` is told the names of attributes that only root may
 * set: of `trusted` and `security`.
 */
export function attributesOf(
  node: TreeNode,
  ownership: Ownership,
  lost: (xattr: ByteString) => void,
): Attributes {
  if (ownership === "kept") return node;
  const xattrs = node.xattrs.filter(({ name }) => {
    const kept = !name.startsWith("trusted.") && !name.startsWith("security.") && name !== overrideXattr;
    if (!kept && name !== overrideXattr) lost(name);
    return kept;
  });
  const canRecord = node.type === "file" || node.type === "directory";
  const record = `${node.uid}:${node.gid}:0${node.mode.toString(8)}`;
  return {
    ...node,
    // Its owner must be able to read, change and remove it, and nobody may become its owner by running it.
    mode: (node.mode & 0o777) | (node.type === "directory" ? 0o700 : 0o600),
    xattrs: canRecord ? [...xattrs, { name: overrideXattr, value: byteStringFromText(record) }] : xattrs,
  };
}
