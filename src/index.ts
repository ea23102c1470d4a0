/**
 * The library: what `skim` does, for runtimes written in TypeScript. What fails throws a SkimError, what is
 * aborted the reason of its signal; nothing is logged unless a logger is handed in. Functions that mount need root.
 *
 *     const { archive } = await indexImage({ image: "docker.io/library/debian:12" });
 *     await using rootfs = await mountRootfs({ image: archive, id: "job-1", dirs: [{ path: "/workspace" }] });
 *     ... // give rootfs.merged to a runtime; it is undone at the end of the block, or with umountRootfs("job-1")
 */
export type { Archive, ArchiveDirent, ArchiveExtent, ArchiveLayer, InodeRecord } from "./archive/archive.js";
export { openArchive } from "./archive/archive-reader.js";
export { type ArchiveDescription, describeArchive } from "./archive/inspect-archive.js";
export { type ArchiveVerification, verifyArchive } from "./archive/verify-archive.js";
export { type ByteString, byteStringFromText, bytesOf, displayText, textOf } from "./base/byte-string.js";
export { type ErrorCode, errorTable, isSkimError, SkimError } from "./base/errors.js";
export { createLogger, type Logger, type LogLevel } from "./base/logger.js";
export type { Progress, ProgressTask } from "./base/progress.js";
export type { Settings, SettingsInput } from "./base/settings.js";
export type {
  HealthAnswer,
  LeftoversAnswer,
  ListedAnswer,
  MountAnswer,
  MountRequestBody,
  RemovalAnswer,
  RootfsAnswer,
  RootfsRequestBody,
} from "./control/api-schemas.js";
export { DaemonClient } from "./control/daemon-client.js";
export {
  type DisposableRootfs,
  makeBundle,
  mountImage,
  mountRootfs,
  observeMounts,
  readMountInFull,
  readStart,
  runImage,
  umountImage,
  umountRootfs,
} from "./control/host.js";
export type { ContainerEntry, CopyResult, FileToCopy, PathInput } from "./copy/container-entry.js";
export { hostTree } from "./copy/host-tree.js";
export type { TakeLimits, TakenTree } from "./copy/take-tree.js";
export type { CheckStatus } from "./doctor/check.js";
export type { Examination, ExaminedCheck } from "./doctor/examine.js";
export type { Explanation, StartFailure } from "./doctor/explain.js";
export type { ExaminedStart, InjectedPath } from "./doctor/subject.js";
export type { ToolProfile } from "./doctor/tool-profiles.js";
export type { ImageConfig } from "./image/config.js";
export type { Digest } from "./image/digest.js";
export { type Platform, parsePlatform } from "./image/platform.js";
export type { MadeBundle, MakeBundleOptions } from "./mount/bundle-image.js";
export {
  type ContainerFilesOptions,
  type CopyInOptions,
  type CopyOutOptions,
  copyIn,
  copyOut,
  listFiles,
  removeFile,
  statFile,
} from "./mount/container-files.js";
export { type ExamineImageOptions, examineImage } from "./mount/examine-image.js";
export { type ExecContainerOptions, execContainer } from "./mount/exec-container.js";
export {
  type ExplainedFailure,
  explainImageFailure,
  explainRecordedFailure,
} from "./mount/explain-failure.js";
export type { ExplainedStart, MountInFull } from "./mount/explain-mount.js";
export type { BackgroundFillMode, FetchAheadOptions, PrefetchMode } from "./mount/fetch-ahead.js";
export { type IndexedImage, type IndexImageOptions, indexImage } from "./mount/index-image.js";
export type { MountedImage, MountImageOptions, UmountOptions } from "./mount/mount-image.js";
export { type ListedMount, listMounts } from "./mount/mount-stats.js";
export type { MountState, ObservedMount } from "./mount/observe-mounts.js";
export type { MountedRootfs, MountRootfsOptions, UmountRootfsOptions } from "./mount/rootfs.js";
export type { RanImage, RunImageOptions } from "./mount/run-image.js";
export type { MountStats } from "./mount/serve-image.js";
export { type UnpackedImage, type UnpackImageOptions, unpackImage } from "./mount/unpack-image.js";
export { type WarmedImage, type WarmImageOptions, warmImage } from "./mount/warm-image.js";
export type { SeedDirectory } from "./overlay/seed-directory.js";
export {
  type EmbeddedRegistry,
  type EmbeddedRegistryOptions,
  startEmbeddedRegistry,
} from "./registry/embedded-registry.js";
export type { Accounts } from "./runtime/accounts.js";
export type { ContainerState } from "./runtime/container-lifecycle.js";
export {
  ContainerRuntime,
  type ContainerRuntimeOptions,
  type CreateOptions,
  type ExecOptions,
  type RunOptions,
} from "./runtime/container-runtime.js";
export type { RunscOverlay } from "./runtime/runsc-features.js";
export type { RuntimeName } from "./runtime/runtime-command.js";
export type { ContainerExit, ContainerStreams } from "./runtime/runtime-process.js";
