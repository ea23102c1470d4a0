/**
 * Makes inodes out of tar entries: takes over attributes, checks what no Linux filesystem could hold, and leaves out the
 * extended attributes that must not travel in an image.
 *
 * Every node comes from `newNode`, so that all have the same shape: trees have a million of them. Sources: FORMAT.md,
 * "inodes"; SEMANTICS.md; chown(2) for the id that means "leave it"; include/linux/kdev_t.h for device numbers;
 * include/uapi/linux/limits.h for extended attributes.
 */
import type { ByteString } from "../base/byte-string.js";
import { limits } from "../base/limits.js";
import type { LayerEntry, Xattr } from "../layer/layer-index.js";
import { shownName } from "../layer/tar-names.js";
import type { NodeType, TreeNode } from "./image-tree.js";
import type { LayerReport } from "./layer-report.js";

/** 2^32 - 1 is (uid_t)-1: chown takes it for "do not change", so nobody can own a file as it. */
const OWNER_ID_MAX = 2 ** 32 - 2;
/** MINORBITS is 20, of a 32-bit dev_t. */
const DEVICE_MAJOR_MAX = 2 ** 12 - 1;
const DEVICE_MINOR_MAX = 2 ** 20 - 1;
/** XATTR_NAME_MAX. */
const XATTR_NAME_BYTES_MAX = 255;

/** The kernel's overlayfs obeys these, so an image could hide or redirect files with them; its escapes (`overlay.overlay.`) too. */
const overlayPrefixes = ["trusted.overlay.", "user.overlay."];
/** They describe the machine that the layer was made on: its SELinux policy, its NFS server. */
const hostXattrs: ReadonlySet<string> = new Set(["security.selinux", "system.nfs4_acl"]);

const noXattrs: readonly Xattr[] = [];
const noExtents: TreeNode["extents"] = [];
const nothing = "" as ByteString;

function newNode(type: NodeType, mode: number, layer: number): TreeNode {
  return {
    type,
    mode,
    uid: 0,
    gid: 0,
    mtimeSec: 0,
    mtimeNsec: 0,
    fileBytes: 0,
    linkTarget: nothing,
    deviceMajor: 0,
    deviceMinor: 0,
    xattrs: noXattrs,
    layer,
    extents: noExtents,
    children: type === "directory" ? new Map() : undefined,
  };
}

/** A directory that nobody described: 0755, 0:0, mtime 0. */
export function impliedDirectory(layer: number): TreeNode {
  return newNode("directory", 0o755, layer);
}

/** Stands where a hard link's target is not there yet. Never left in a tree. */
export function placeholderNode(layer: number): TreeNode {
  return newNode("file", 0, layer);
}

/** The inode of any entry but a hard link; `type` is the entry's. Throws LAYER_CORRUPT or LIMIT_EXCEEDED for what cannot exist on Linux. */
export function nodeOfEntry(entry: LayerEntry, type: NodeType, layer: number, report: LayerReport): TreeNode {
  const node = newNode(type, 0, layer);
  setAttributes(node, entry, layer, report);
  switch (type) {
    case "file":
      node.fileBytes = entry.fileBytes;
      node.extents = entry.extents;
      break;
    case "symlink":
      checkTarget(entry, report);
      // Symlinks have no mode of their own: every filesystem shows 0777, whatever the tar says.
      node.mode = 0o777;
      node.linkTarget = entry.linkTarget;
      break;
    case "character":
    case "block":
      checkDevice(entry, report);
      node.deviceMajor = entry.deviceMajor;
      node.deviceMinor = entry.deviceMinor;
      break;
    case "directory":
    case "fifo":
      break;
  }
  return node;
}

/** Gives an inode the mode, owner, mtime and extended attributes of `entry`. Throws as `nodeOfEntry`. */
export function setAttributes(node: TreeNode, entry: LayerEntry, layer: number, report: LayerReport): void {
  checkOwner(entry, report);
  node.mode = entry.mode & 0o7777;
  node.uid = entry.uid;
  node.gid = entry.gid;
  node.mtimeSec = entry.mtimeSec;
  node.mtimeNsec = entry.mtimeNsec;
  node.xattrs = entry.xattrs.length === 0 ? noXattrs : keptXattrs(entry, report);
  node.layer = layer;
}

function checkOwner(entry: LayerEntry, report: LayerReport): void {
  const { uid, gid } = entry;
  if (uid >= 0 && uid <= OWNER_ID_MAX && gid >= 0 && gid <= OWNER_ID_MAX) return;
  const found = `has the owner ${uid}:${gid}; ids go from 0 to ${OWNER_ID_MAX}`;
  throw report.error("LAYER_CORRUPT", entry.path, found);
}

function checkDevice(entry: LayerEntry, report: LayerReport): void {
  const { deviceMajor: major, deviceMinor: minor } = entry;
  if (major >= 0 && major <= DEVICE_MAJOR_MAX && minor >= 0 && minor <= DEVICE_MINOR_MAX) return;
  const found = `is the device ${major}:${minor}; Linux has majors to ${DEVICE_MAJOR_MAX} and minors to ${DEVICE_MINOR_MAX}`;
  throw report.error("LAYER_CORRUPT", entry.path, found);
}

function checkTarget(entry: LayerEntry, report: LayerReport): void {
  const target = entry.linkTarget;
  if (target.length === 0)
    throw report.error("LAYER_CORRUPT", entry.path, "is a symbolic link without a target");
  if (target.includes("\0"))
    throw report.error("LAYER_CORRUPT", entry.path, "is a symbolic link with a NUL in its target");
  if (target.length > limits.symlinkBytesMax) {
    throw report.error(
      "LIMIT_EXCEEDED",
      entry.path,
      `is a symbolic link of ${target.length} bytes; Linux takes ${limits.symlinkBytesMax} at most`,
    );
  }
}

/** What remains of the entry's extended attributes, by name bytes. Throws LIMIT_EXCEEDED where the kernel's limits are passed. */
function keptXattrs(entry: LayerEntry, report: LayerReport): readonly Xattr[] {
  const refuse = (found: string) => report.error("LIMIT_EXCEEDED", entry.path, found);
  let listBytes = 0;
  const kept: Xattr[] = [];
  for (const xattr of entry.xattrs) {
    const { name, value } = xattr;
    if (name.length === 0 || name.includes("\0"))
      throw report.error(
        "LAYER_CORRUPT",
        entry.path,
        "has an extended attribute whose name no system can hold",
      );
    if (hostXattrs.has(name)) continue;
    if (name.startsWith("user.") && entry.type !== "file" && entry.type !== "directory") {
      report.warn(
        entry.path,
        `has the extended attribute ${shownName(name)}, left out: Linux has those of users for files and directories only`,
      );
      continue;
    }
    if (overlayPrefixes.some((prefix) => name.startsWith(prefix))) {
      report.warn(
        entry.path,
        `has the extended attribute ${shownName(name)}, left out: overlayfs would obey it`,
      );
      continue;
    }
    if (name.length > XATTR_NAME_BYTES_MAX)
      throw refuse(`has an extended attribute with a name of ${name.length} bytes; Linux takes 255 at most`);
    if (value.length > limits.xattrValueBytesMax)
      throw refuse(
        `has an extended attribute of ${value.length} bytes; Linux takes ${limits.xattrValueBytesMax} at most`,
      );
    listBytes += name.length + 1;
    kept.push(xattr);
  }
  if (listBytes > limits.xattrListBytesMax)
    throw refuse(
      `has ${listBytes} bytes of extended attribute names; Linux takes ${limits.xattrListBytesMax} at most`,
    );
  return kept.sort((a, b) => (a.name < b.name ? -1 : 1));
}
