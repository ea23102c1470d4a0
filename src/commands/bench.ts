import { mkdtemp, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { Command } from "commander";
import type { Platform } from "../image/platform.js";
import {
  type CommonOptions,
  createContext,
  withCommonOptions,
  withPlatformOption,
  withRegistryHostOptions,
} from "./command-context.js";
import { formatBytes } from "./format.js";

interface BenchOptions extends CommonOptions {
  rounds: string;
  html?: string;
  workDir: string;
  platform?: Platform;
}

export function addBenchCommand(program: Command): void {
  const command = program
    .command("bench")
    .description(
      "measure starts of an image on this host: cold, with a start profile, again, and unpacked; the command must print a line when it is of use, and end",
    )
    .argument("<IMAGE>", "[docker://]registry/repo[:tag][@digest], or oci:DIR[:tag]")
    .argument("[ARGS...]", "behind --: the command, instead of the image's")
    .option("--rounds <n>", "starts of each kind, by turns; medians are shown", "3")
    .option("--html <file>", "write a page with tables and plots, in one file")
    .option(
      "--work-dir <dir>",
      "where caches and unpacked trees are made and removed again; on a disk with room for one tree a round",
      "/var/tmp",
    );
  withCommonOptions(withRegistryHostOptions(withPlatformOption(command)));
  command.action(async (image: string, args: string[], options: BenchOptions) => {
    await bench(program, image, args, options);
  });
}

async function bench(program: Command, image: string, args: string[], options: BenchOptions): Promise<void> {
  const { platformText } = await import("../image/platform.js");
  const { measureImageStarts, parseRounds } = await import("../bench/image-starts.js");
  const { flagsIn } = await import("../bench/skim-flags.js");
  const context = createContext(options);
  const rounds = parseRounds(options.rounds);
  const runCommand = program.commands.find((one) => one.name() === "run") ?? new Command();
  const workDir = await mkdtemp(path.join(path.resolve(options.workDir), "skim-bench-"));
  try {
    const measured = await measureImageStarts({
      image,
      command: args,
      rounds,
      skim: [process.execPath, process.argv[1] ?? ""],
      flags: flagsIn(runCommand.helpInformation(), program.helpInformation()),
      imageOptions: [
        ...(options.platform ? ["--platform", platformText(options.platform)] : []),
        ...(options.insecureRegistry ?? []).flatMap((host) => ["--insecure-registry", host]),
      ],
      workDir,
      signal: context.signal,
      say: (text) => {
        if (!context.json) process.stderr.write(`${text}\n`);
      },
    });
    const { describeHost } = await import("../bench/host.js");
    const { skimVersion } = await import("../base/version.js");
    const { line, indexMs, imageBytes, figures, plots } = measured;
    const facts = {
      image,
      command: args.length > 0 ? args.join(" ") : "the image's",
      "first line": line,
      "image, compressed": formatBytes(imageBytes),
      "indexing, once": `${indexMs} ms`,
      rounds,
      skim: skimVersion,
      ...describeHost(),
      measured: new Date().toISOString().slice(0, 10),
    };
    if (options.html) {
      const { reportPage } = await import("../bench/report-page.js");
      const page = reportPage({ title: `skim bench ${image}`, facts, text: method, figures, plots });
      await writeFile(options.html, page);
    }
    const { figureText } = await import("../bench/figure-table.js");
    const { summaryOfRow } = await import("../bench/figure.js");
    const rowsOf = (figure: (typeof figures)[number]) =>
      figure.rows.map((row) => ({ ...row, ...summaryOfRow(figure, row.system) }));
    context.print(
      {
        image,
        command: args,
        line,
        indexMs,
        imageBytes,
        host: { skim: skimVersion, ...describeHost() },
        figures: figures.map((figure) => ({ ...figure, rows: rowsOf(figure) })),
      },
      () =>
        [
          `image    ${image}, ${formatBytes(imageBytes)} compressed; indexing it took ${indexMs} ms, once`,
          `printed  ${line}`,
          "",
          ...figures.map(figureText),
        ].join("\n"),
    );
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

const method = `A start is measured from before the command is forked until the first line of the program is here. Cold: the image is indexed, none of its bytes is on this
host. Second start: in the cache that the cold start of the same round has filled. Unpacked: skim unpack of the whole image into a new directory, then runc with the config that skim
run gives the container. Kinds take turns; medians of all rounds, with the lowest and the highest; a kind that has taken two minutes is left out of further rounds. Programs are in the page
cache, and nothing is dropped from it.`;
