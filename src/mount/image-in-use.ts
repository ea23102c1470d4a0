/**
 * A start that does not wait for the registry to say what a name means. A name mostly means what it meant last, and asking takes several round trips, more where a token has
 * to be got first: so whatever is made of an image is begun with that one, and only given to anybody when the registry has said that it is the one. Where it is not, or
 * making it failed, all is undone and done again with the image that the registry has named: nobody sees anything but the time.
 */
import { SkimError } from "../base/errors.js";
import { resolveSettings } from "../base/settings.js";
import { parseReference, referenceText, withDigest } from "../image/reference.js";
import { openStoredArchive } from "./archive-store.js";
import {
  archiveFileNamed,
  type OpenedImage,
  type OpenImageOptions,
  openImageOrArchive,
} from "./image-or-archive.js";
import { lastMeaning } from "./known-names.js";

/** Whether the registry means by a name what it meant last. */
export interface Meaning {
  /** Asks it, where that was not done yet. Loading what speaks to registries keeps this process busy for 15 ms: not before a server has been told what to serve. */
  ask(): void;
  /** Resolves when it does. Throws what openImageOrArchive does. */
  confirm(): Promise<void>;
}

const known: Meaning = { ask() {}, async confirm() {} };

/**
 * Makes something of what `name` means, which is open meanwhile. `make` is called once more where the name turns out to mean another image, and leaves nothing when it
 * fails. It awaits `confirm` before anybody can use what it has made.
 */
export async function withImage<T>(
  name: string,
  options: OpenImageOptions,
  make: (image: OpenedImage, meaning: Meaning) => Promise<T>,
): Promise<T> {
  options.marks?.set("searching");
  const likely = await openLikely(name, options);
  const makeOf = (image: OpenedImage) => make(image, known).finally(() => image.archive.close());
  if (!likely) return await makeOf(await openImageOrArchive(name, options));
  const { marks, signal, ...rest } = options;
  marks?.set("opened");
  const given = new AbortController();
  let asked: Promise<OpenedImage> | undefined;
  const ask = () => {
    asked ??= openImageOrArchive(name, {
      ...rest,
      likely,
      signal: signal ? AbortSignal.any([signal, given.signal]) : given.signal,
    });
    asked.catch(() => {});
    return asked;
  };
  const confirm = async () => {
    const image = await ask();
    marks?.set("resolved");
    if (image !== likely) throw new SkimError("CANCELLED", `${name} does not mean ${likely.source} any more`);
  };
  try {
    try {
      return await make(likely, { ask, confirm });
    } catch (error) {
      const image = await ask();
      if (image === likely) throw error;
      return await makeOf(image);
    }
  } finally {
    given.abort();
    await likely.archive.close();
  }
}

/** What `name` meant last, where it is here; undefined for archives, and for names that say themselves what they mean. */
async function openLikely(
  name: string,
  { settings, platform }: OpenImageOptions,
): Promise<OpenedImage | undefined> {
  if (await archiveFileNamed(name)) return undefined;
  const reference = parseReference(name);
  const { cacheDir, spanBytes } = resolveSettings(settings);
  const digest = await lastMeaning(cacheDir, reference, platform);
  const stored = digest && (await openStoredArchive(cacheDir, digest, spanBytes));
  if (!stored) return undefined;
  const { file, archive } = stored;
  return { archiveFile: file, archive, source: referenceText(withDigest(reference, digest)) };
}
