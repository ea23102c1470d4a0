/**
 * Bounds of everything that grows with input, each with its unit in the name and its reason beside it. Those that an honest image
 * could reach can be raised by a setting (see settings.ts); the error that reports one names that setting.
 */
const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

export const limits = {
  /** The distribution spec asks registries to take manifests up to 4 MiB; ours are read into memory whole. */
  manifestBytesMax: 4 * MiB,
  /** Configs carry history and labels; the largest known are below 1 MiB. Read into memory whole. */
  configBytesMax: 8 * MiB,
  /** Layers of one image. Docker stops at 127; build tools that do not are seen below 500. */
  layersMax: 1000,
  /** Tar members of one layer; a node_modules monorepo has about one million. About 300 bytes of memory each. */
  layerEntriesMax: 5_000_000,
  /** Uncompressed bytes of one layer: the largest model images have layers of a few hundred GB. */
  layerUncompressedBytesMax: 1024 * GiB,
  /** Deflate cannot exceed 1032:1; zstd can. A tar that beats this is a bomb unless it is small. */
  layerRatioMax: 1100,
  /** Below this the ratio is not looked at: an empty tar of zeros compresses without bound. */
  layerRatioFreeBytes: 64 * MiB,
  /** PATH_MAX: a longer path could be indexed but never opened by its full name. */
  pathBytesMax: 4096,
  /** NAME_MAX of every Linux filesystem. */
  nameBytesMax: 255,
  /** A symlink target must fit PATH_MAX with its NUL. */
  symlinkBytesMax: 4095,
  /** XATTR_SIZE_MAX of the kernel. */
  xattrValueBytesMax: 64 * KiB,
  /** XATTR_LIST_MAX of the kernel bounds all names of one inode. */
  xattrListBytesMax: 64 * KiB,
  /** One PAX header or GNU long name; they are read into memory. Sixteen 64 KiB xattrs fit. */
  tarHeaderDataBytesMax: 2 * MiB,
  /** Uncompressed bytes between checkpoints: 4 MiB spans fetched half of the test image for `import numpy`, 256 KiB need a far larger index. */
  spanBytesDefault: 1 * MiB,
  spanBytesMin: 64 * KiB,
  spanBytesMax: 16 * MiB,
  /** Deflate's window (RFC 1951). */
  windowBytes: 32 * KiB,
  /** An archive section is read into memory; 4 GiB is what its 32-bit offsets reach. */
  archiveSectionBytesMax: 4 * GiB,
} as const;
