/**
 * The images of the scenario `start`: what people run, made once from Debian's packages and kept, as one of them takes minutes. All are tags of one OCI layout, so
 * that one registry serves them.
 */
import { mkdir, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { addGzipImage, type TarPart } from "../support/gzip-layers.js";
import { run } from "../support/processes.js";
import { cutTar } from "../support/tar-cut.js";

const root = path.resolve(import.meta.dirname, "../..");

export interface StartImage {
  /** Its tag, and as --image takes it. */
  readonly name: string;
  readonly title: string;
  /** Which tars of scripts/make-bench-tars.sh it is made of. */
  readonly tars: string;
  /** A number: the only tar cut into so many layers. "each": a layer for each tar. */
  readonly layers: number | "each";
  /** The image's own command: prints a line as soon as it is of use, and ends. */
  readonly command: readonly string[];
}

const importNumpy = ["python3", "-c", "import numpy; print(numpy.__version__)"];

export const startImages: readonly StartImage[] = [
  { name: "numpy", title: "Debian, Python, numpy", tars: "numpy", layers: 1, command: importNumpy },
  {
    name: "numpy-8",
    title: "Debian, Python, numpy in eight layers",
    tars: "numpy",
    layers: 8,
    command: importNumpy,
  },
  {
    name: "node",
    title: "a service on node with a large node_modules",
    tars: "node",
    layers: "each",
    command: ["node", "/app/main.js"],
  },
  {
    name: "java",
    title: "Debian, OpenJDK 17",
    tars: "java",
    layers: "each",
    command: ["java", "-cp", "/app", "Hello"],
  },
  {
    name: "torch",
    title: "PyTorch, pandas, scikit-learn, CUDA libraries",
    tars: "torch",
    layers: 6,
    command: ["python3", "-c", "import torch; print(torch.__version__)"],
  },
];

export function startImage(name: string): StartImage {
  const found = startImages.find((image) => image.name === name);
  if (!found) throw new Error(`there is no image ${name}; there are ${startImages.map((one) => one.name)}`);
  return found;
}

/** Makes those of `images` that `directory`, a layout, has not yet. */
export async function makeStartImages(
  directory: string,
  images: readonly StartImage[],
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<void> {
  await mkdir(directory, { recursive: true });
  const tags = await tagsOf(directory);
  const missing = images.filter(({ name }) => !tags.has(name));
  for (const tars of new Set(missing.map((image) => image.tars))) {
    const tarDir = path.join(directory, "tars", tars);
    say(`making the image ${tars} from Debian's packages; this takes minutes, once`);
    await rm(tarDir, { recursive: true, force: true });
    const timeoutMs = 3_600_000;
    await run(path.join(root, "scripts/make-bench-tars.sh"), [tars, tarDir], { signal, timeoutMs });
    for (const image of missing.filter((one) => one.tars === tars))
      await addGzipImage(directory, image.name, await partsOf(image, tarDir), image.command, signal);
  }
  await rm(path.join(directory, "tars"), { recursive: true, force: true });
}

async function partsOf({ layers, name }: StartImage, tarDir: string): Promise<TarPart[]> {
  if (layers !== "each") {
    const file = path.join(tarDir, "1.tar");
    return (await cutTar(file, layers)).map((range) => ({ file, range }));
  }
  const parts: TarPart[] = [];
  for (let tar = 1; parts.length === tar - 1; tar++) {
    const file = path.join(tarDir, `${tar}.tar`);
    const whole = await cutTar(file, 1).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return [];
      throw error;
    });
    parts.push(...whole.map((range) => ({ file, range })));
  }
  if (parts.length === 0) throw new Error(`no tars were made for ${name}`);
  return parts;
}

async function tagsOf(layout: string): Promise<Set<string>> {
  const text = await readFile(path.join(layout, "index.json"), "utf8").catch(() => `{"manifests":[]}`);
  const { manifests } = JSON.parse(text) as { manifests: { annotations?: Record<string, string> }[] };
  return new Set(
    manifests.map(({ annotations }) => annotations?.["org.opencontainers.image.ref.name"] ?? ""),
  );
}
