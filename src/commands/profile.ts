import { readFile, writeFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import type { Command } from "commander";
import { SkimError } from "../base/errors.js";
import type { ImageProfiles, StartProfile } from "../profile/start-profile.js";
import {
  type CommandContext,
  type CommonOptions,
  createContext,
  withCommonOptions,
  withRegistryHostOptions,
} from "./command-context.js";
import { formatBytes, formatTable } from "./format.js";
import type { NamedArchive } from "./open-named.js";
import { withRootfsOptions } from "./rootfs.js";
import { type RunCommandOptions, runCommand, withContainerOptions } from "./run.js";

/** Of a command line in a table; --json has all of it. */
const commandCharactersMax = 100;

export function addProfileCommand(program: Command): void {
  const profile = program
    .command("profile")
    .description(
      "what starts of an image read first: recorded once, fetched ahead by every start afterwards",
    );

  const record = profile
    .command("record")
    .description("run an image as skim run does, and note what its start reads (at most a minute)")
    .argument("<ARCHIVE|IMAGE>", "an archive, or an image (indexed first if need be)")
    .argument("[ARGS...]", "behind --: the command, instead of the image's")
    .option("--id <id>", "name of the container (default: a random one)");
  withCommonOptions(withContainerOptions(withRootfsOptions(record)), { json: false });
  record.action(async (image: string, args: string[], options: RunCommandOptions) => {
    process.exit(await runCommand(image, args, { ...options, recordProfile: true }, createContext(options)));
  });

  const show = profile
    .command("show")
    .description("the recorded profiles of an image, one a command")
    .argument("<ARCHIVE|IMAGE>");
  withCommonOptions(withRegistryHostOptions(show));
  show.action(async (name: string, options: CommonOptions) => {
    const context = createContext(options);
    await withProfiles(name, context, async ({ archive }, profiles) => {
      const { spansOf } = await import("../profile/start-profile.js");
      const described = profiles.profiles.map((one) => describe(one, spansOf(one, archive), archive));
      context.print({ ...profiles, profiles: described }, () =>
        described.length === 0
          ? `nothing recorded; record with: skim profile record ${name} -- COMMAND`
          : formatTable(
              [
                ["COMMAND", "RUNS", "SPANS", "FETCHED", "RECORDED"],
                ...described.map(({ command, runs, spans, compressedBytes, recordedAt }) => [
                  shortened(command.join(" ")) || "(not known)",
                  ...[String(runs), String(spans), formatBytes(compressedBytes)],
                  recordedAt.slice(0, 19).replace("T", " "),
                ]),
              ],
              [1, 2, 3],
            ),
      );
    });
  });

  const exported = profile
    .command("export")
    .description("write the profiles of an image as JSON, for other hosts")
    .argument("<ARCHIVE|IMAGE>")
    .option("-o, --output <file>", "default: standard output");
  withCommonOptions(withRegistryHostOptions(exported), { json: false });
  exported.action(async (name: string, options: CommonOptions & { output?: string }) => {
    await withProfiles(name, createContext(options), async (_opened, profiles) => {
      if (profiles.profiles.length === 0)
        throw new SkimError(
          "NOT_FOUND",
          `no profile of ${name} is recorded; record one with: skim profile record ${name} -- COMMAND`,
        );
      const text = `${JSON.stringify(profiles, null, 2)}\n`;
      if (options.output === undefined) return void process.stdout.write(text);
      await writeFile(options.output, text).catch((cause: unknown) => {
        throw new SkimError("LOCAL_IO", `cannot write ${options.output}`, { cause });
      });
    });
  });

  const imported = profile
    .command("import")
    .description(
      "add profiles that were exported elsewhere, also from another version of the image: layers that both have count",
    )
    .argument("<ARCHIVE|IMAGE>")
    .argument("<FILE>", "- for standard input");
  withCommonOptions(withRegistryHostOptions(imported));
  imported.action(async (name: string, file: string, options: CommonOptions) => {
    const context = createContext(options);
    const { parseProfiles } = await import("../profile/start-profile.js");
    const given = parseProfiles(await readText(file), file === "-" ? "standard input" : file);
    await withProfiles(name, context, async ({ archive }) => {
      const { addToProfiles } = await import("../profile/profile-store.js");
      const layers = new Set(archive.layers.map(({ digest }) => digest));
      const fitting = given.profiles
        .map((one) => ({ ...one, reads: one.reads.filter(({ layer }) => layers.has(layer)) }))
        .filter(({ reads }) => reads.length > 0);
      if (fitting.length === 0)
        throw new SkimError(
          "USAGE",
          `${file} says nothing of ${name}: none of its layers are this image's; it was recorded with ${given.manifestDigest}`,
        );
      addToProfiles(context.settings.cacheDir, archive.identity.manifestDigest, fitting);
      context.print(
        { imported: fitting.length },
        () => `imported ${fitting.length} of ${given.profiles.length} profiles`,
      );
    });
  });

  const removed = profile
    .command("rm")
    .description("forget the profiles of an image")
    .argument("<ARCHIVE|IMAGE>");
  withCommonOptions(withRegistryHostOptions(removed));
  removed.action(async (name: string, options: CommonOptions) => {
    const context = createContext(options);
    await withProfiles(name, context, async ({ archive }) => {
      const { removeProfiles } = await import("../profile/profile-store.js");
      const had = removeProfiles(context.settings.cacheDir, archive.identity.manifestDigest);
      context.print({ removed: had }, () => (had ? "" : "nothing recorded"));
    });
  });
}

function shortened(command: string): string {
  return command.length <= commandCharactersMax ? command : `${command.slice(0, commandCharactersMax)}...`;
}

async function withProfiles(
  name: string,
  context: CommandContext,
  use: (opened: NamedArchive, profiles: ImageProfiles) => Promise<void>,
): Promise<void> {
  const { withArchiveNamed } = await import("./open-named.js");
  const { readProfiles } = await import("../profile/profile-store.js");
  await withArchiveNamed(name, context, (opened) =>
    use(opened, readProfiles(context.settings.cacheDir, opened.archive.identity.manifestDigest)),
  );
}

/** What a start with the profile fetches ahead. */
function describe(profile: StartProfile, spans: readonly number[], archive: NamedArchive["archive"]) {
  const compressedBytes = spans.reduce((sum, span) => {
    const { compressedStart, compressedEnd } = archive.span(span);
    return sum + compressedEnd - compressedStart;
  }, 0);
  return { ...profile, spans: spans.length, compressedBytes };
}

async function readText(file: string): Promise<string> {
  try {
    if (file !== "-") {
      return await readFile(file, "utf8");
    }
    return await text(process.stdin);
  } catch (cause) {
    throw new SkimError("LOCAL_IO", `cannot read ${file}`, { cause });
  }
}
