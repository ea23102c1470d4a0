/**
 * From what a caller calls an image to the file of its archive. An image that is not indexed yet is indexed by a process of its own: that takes all of a
 * processor for seconds, and reads what somebody else has written, neither of which belongs in a process that serves mounts.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { access, stat } from "node:fs/promises";
import path from "node:path";
import { text } from "node:stream/consumers";
import { type ErrorCode, errorTable, SkimError } from "../base/errors.js";
import type { Logger } from "../base/logger.js";
import { Semaphore } from "../base/semaphore.js";
import type { Settings } from "../base/settings.js";
import { SingleFlight } from "../base/single-flight.js";
import { type Platform, platformText } from "../image/platform.js";
import { parseReference, referenceText, withDigest } from "../image/reference.js";
import { storedArchiveFile } from "../mount/archive-store.js";
import { dockerCredentials } from "../registry/docker-credentials.js";
import { openImageSource } from "../registry/open-image-source.js";
import { type NamedImage, ownAccess, type RegistryAccess } from "./image-request.js";

/** Each takes a processor. */
const indexedAtOnce = 2;

export interface ImageName {
  /** An archive's file, absolute, or the name of an image. */
  readonly image: string;
  readonly source?: string | undefined;
  readonly platform?: Platform | undefined;
  readonly access: RegistryAccess;
}

export interface ImageFinderOptions {
  readonly settings: Settings;
  readonly logger: Logger;
}

export class ImageFinder {
  readonly #options: ImageFinderOptions;
  readonly #indexing = new SingleFlight<string, string>();
  readonly #slots = new Semaphore(indexedAtOnce);

  constructor(options: ImageFinderOptions) {
    this.#options = options;
  }

  /** Throws as indexImage does, and NOT_FOUND where a path names no file. */
  async find(name: ImageName): Promise<NamedImage> {
    const { image, source } = name;
    const { settings, logger } = this.#options;
    const ways = ownAccess(name.access, settings);
    if (path.isAbsolute(image)) {
      if (!(await stat(image).catch(() => undefined))?.isFile())
        throw new SkimError(
          "NOT_FOUND",
          `no archive at ${image}; make one with: skim index IMAGE -o ${image}`,
        );
      return { archiveFile: image, ...(source === undefined ? {} : { source }), access: ways };
    }
    const { environment, ...registry } = ways;
    const reference = parseReference(image);
    const stored = reference.digest
      ? storedArchiveFile(settings.cacheDir, reference.digest, settings.spanBytes)
      : undefined;
    if (stored && !name.platform && (await isThere(stored)))
      return { archiveFile: stored, source: source ?? referenceText(reference), access: ways };
    const credentials = environment
      ? { credentials: dockerCredentials({ ...process.env, ...environment }) }
      : {};
    const images = await openImageSource(reference, {
      settings: { ...settings, ...registry },
      logger,
      ...credentials,
    });
    try {
      const resolved = await images.resolve(name.platform ? { platform: name.platform } : {});
      const pinned = referenceText(withDigest(reference, resolved.manifestDigest));
      const file = storedArchiveFile(settings.cacheDir, resolved.manifestDigest, settings.spanBytes);
      const archiveFile = (await isThere(file))
        ? file
        : await this.#indexing.run(file, () => this.#slots.run(() => this.#index(pinned, name)));
      return { archiveFile, source: source ?? pinned, access: ways };
    } finally {
      await images.close();
    }
  }

  async #index(image: string, { platform, access: ways }: ImageName): Promise<string> {
    const { settings, logger } = this.#options;
    const args = [
      path.resolve(import.meta.dirname, "../../dist/bin/skim.js"),
      ...["index", image, "--json", "--cache-dir", settings.cacheDir, "--run-dir", settings.runDir],
      ...["--span-size", String(settings.spanBytes)],
      ...(platform ? ["--platform", platformText(platform)] : []),
      ...(ways.insecureRegistries ?? settings.insecureRegistries).flatMap((host) => [
        "--insecure-registry",
        host,
      ]),
      ...Object.entries(ways.mirrors ?? settings.mirrors).flatMap(([host, urls]) => [
        "--mirror",
        `${host}=${urls.join(",")}`,
      ]),
    ];
    logger.info({ image }, "indexing an image");
    const child = spawn(process.execPath, args, {
      cwd: "/",
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...ways.environment },
    });
    const [output, complaint, [code]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, "exit"),
    ]);
    if (code === 0) return (JSON.parse(output) as { archive: string }).archive;
    const [, name = "INTERNAL", message = complaint.trim()] =
      /^skim: ([A-Z_]+): (.*)$/m.exec(complaint) ?? [];
    throw new SkimError(name in errorTable ? (name as ErrorCode) : "INTERNAL", message);
  }
}

async function isThere(file: string): Promise<boolean> {
  return await access(file).then(
    () => true,
    () => false,
  );
}
