import { expect } from "vitest";
import type { OverlayOption } from "../../src/overlay/mount-options.js";
import { type EmbeddedRegistry, startEmbeddedRegistry } from "../../src/registry/embedded-registry.js";
import { makeSkimHost, type SkimHost } from "../support/skim-cli.js";
import type { TarEntrySpec } from "../support/tar-builder.js";
import { makeTempDir } from "../support/temp-dir.js";
import { type DumpLine, differences, dumpTree } from "../support/tree-dump.js";
import { writeWritingImage } from "./writing-image.js";

/** 64 KiB, the smallest there is: each file of the tree has a span or two of its own. */
const spanBytes = "65536";

/** What `skim rootfs mount --json` prints. */
export interface Rootfs {
  readonly id: string;
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
  readonly merged: string;
}

/** What a server has fetched, and been asked to read. */
export interface Fetched {
  readonly requests: number;
  readonly bytes: number;
  /** FUSE READ requests. */
  readonly reads: number;
}

/** The image of writing-image.ts in a registry on loopback, and a host with an empty cache that has indexed it. */
export class WritingPlace {
  readonly dir: string;
  readonly layout: string;
  readonly host: SkimHost;
  readonly registry: EmbeddedRegistry;
  /** Name of the image in the registry, with the digest of its manifest. */
  readonly image: string;
  readonly manifestDigest: string;

  private constructor(place: Omit<WritingPlace, "mount" | "umount" | "fetched" | "close">) {
    this.dir = place.dir;
    this.layout = place.layout;
    this.host = place.host;
    this.registry = place.registry;
    this.image = place.image;
    this.manifestDigest = place.manifestDigest;
  }

  static async open(more: readonly TarEntrySpec[] = []): Promise<WritingPlace> {
    const dir = await makeTempDir("writing");
    const layout = `${dir}/layout`;
    const { manifestDigest } = await writeWritingImage(layout, more);
    const registry = await startEmbeddedRegistry({ layout });
    const image = `${registry.host}/writing@${manifestDigest}`;
    const host = await makeSkimHost();
    host.env.SKIM_SPAN_BYTES = spanBytes;
    const place = { dir, layout, host, registry, image, manifestDigest };
    return new WritingPlace(place);
  }

  /** Nothing is fetched ahead: what is counted is what a test's own calls have fetched. */
  async mount(id: string, ...options: readonly string[]): Promise<Rootfs> {
    const args = ["rootfs", "mount", this.image, "--id", id, "--prefetch", "none", ...options];
    return await this.host.json<Rootfs>(args);
  }

  /** Takes it down; with `--keep-upper`, resolves to where the upper is. */
  async umount(id: string, ...options: readonly string[]): Promise<string> {
    const undone = await this.host.json<{ upper?: string }>(["rootfs", "umount", id, ...options]);
    return undone.upper ?? "";
  }

  async fetched(id: string): Promise<Fetched> {
    const { registry, operations } = await this.host.json<{
      registry: { requests: number; bytes: number };
      operations: Record<string, number>;
    }>(["stats", id]);
    return { ...registry, reads: operations.read ?? 0 };
  }

  async close(): Promise<void> {
    await this.registry.close();
    expect(await this.host.leftovers()).toEqual([]);
  }
}

/**
 * A tree as two views of it must agree on. overlayfs gives every directory that is merged from two one link, and sizes of directories are
 * the filesystem's own affair.
 */
export async function viewOf(root: string): Promise<DumpLine[]> {
  const lines = await dumpTree(root);
  return lines.map((line) => (line.type === "directory" ? { ...line, nlink: 0 } : line));
}

/** How the tree at `root` differs from `before`: sentences, at most `max` of them, none for the same tree. */
export async function changesSince(
  before: readonly DumpLine[],
  root: string,
  max?: number,
): Promise<string[]> {
  return differences(before, await viewOf(root), max);
}

/** What `skim ps` tells of a rootfs. */
export async function overlayOptionsOf(host: SkimHost, id: string): Promise<readonly OverlayOption[]> {
  const listed = await host.json<{ id: string; overlayOptions?: OverlayOption[] }[]>(["ps"]);
  return listed.find((mount) => mount.id === id)?.overlayOptions ?? [];
}
