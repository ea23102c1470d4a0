import type { Command } from "commander";
import { SkimError } from "../base/errors.js";
import type { DaemonClient } from "../control/daemon-client.js";
import {
  type CommandContext,
  type CommonOptions,
  createContext,
  ignoreInterrupts,
  serverLogLevel,
  withCommonOptions,
  withRegistryHostOptions,
} from "./command-context.js";

interface DaemonCommandOptions extends CommonOptions {
  metrics?: string;
  restart: boolean;
}

export function addDaemonCommand(program: Command): void {
  const daemon = program
    .command("daemon")
    .description("serve all mounts of this host from one process, and an API on a Unix socket")
    .option("--metrics <host:port>", "serve the metrics over TCP as well, and nothing else")
    .option("--no-restart", "when it dies, leave the mounts to whoever starts it next");
  withCommonOptions(withRegistryHostOptions(daemon), { json: false });
  daemon.allowExcessArguments().action(async (options: DaemonCommandOptions) => {
    const [unknown] = daemon.args;
    if (unknown !== undefined)
      throw new SkimError(
        "USAGE",
        `skim daemon has no command ${JSON.stringify(unknown)}; it has ${daemon.commands.map((each) => each.name()).join(", ")}, and without one it serves`,
      );
    const { runDaemon } = await import("../control/daemon-main.js");
    const context = createContext(options);
    // It has an end of its own to come to.
    ignoreInterrupts(true);
    await runDaemon({
      settings: context.settings,
      logLevel: serverLogLevel(context),
      configFile: options.config,
      restart: options.restart,
      ...(options.metrics ? { metricsAddress: options.metrics } : {}),
    });
    process.exit(0);
  });

  subcommand(daemon, "status", "what the daemon of this host is doing").action(
    async (_: unknown, command: Command) => {
      const { context, client } = await connect(command);
      const health = await client.health();
      context.print(health, () =>
        Object.entries(health)
          .map(([name, value]) => `${name.padEnd(9)} ${value}`)
          .join("\n"),
      );
    },
  );
  subcommand(daemon, "drain", "take no more mounts; those that are there stay").action(
    async (_: unknown, command: Command) => {
      const { context, client } = await connect(command);
      const health = await client.drain();
      context.print(health, () => `draining: ${health.rootfs} rootfs and mounts are left`);
    },
  );
  subcommand(daemon, "stop", "unmount everything and end")
    .option("--force", "although rootfs are mounted: their users lose them")
    .action(async (_: unknown, command: Command) => {
      const { context, client } = await connect(command);
      const { force = false } = command.optsWithGlobals<{ force?: boolean }>();
      const health = await client.shutdown({ force });
      context.print(health, () => "");
    });
  subcommand(daemon, "openapi", "the OpenAPI document of its API").action(
    async (_: unknown, command: Command) => {
      const { client } = await connect(command);
      process.stdout.write(`${JSON.stringify(await client.openApi(), null, 2)}\n`);
    },
  );
  subcommand(daemon, "logs", "the last lines about a mount, a rootfs or an image")
    .argument("<ID>")
    .option("--lines <n>", "at most so many", Number, 200)
    .action(async (id: string, _: unknown, command: Command) => {
      const { client } = await connect(command);
      process.stdout.write(await client.logs(id, command.opts<{ lines: number }>().lines));
    });
}

function subcommand(daemon: Command, name: string, description: string): Command {
  return withCommonOptions(daemon.command(name).description(description));
}

async function connect(command: Command): Promise<{ context: CommandContext; client: DaemonClient }> {
  const { DaemonClient } = await import("../control/daemon-client.js");
  const context = createContext(command.optsWithGlobals<CommonOptions>());
  const { runDir } = context.settings;
  const found = await DaemonClient.find(runDir);
  if (!found) {
    const { holderLives } = await import("../holder/open-keeper.js");
    const held = holderLives(runDir)
      ? "; what is mounted is held, and its readers wait for the next one"
      : "";
    throw new SkimError(
      "NOT_FOUND",
      `no daemon answers at ${runDir}/daemon.sock${held}; start one with: skim daemon`,
    );
  }
  return { context, client: found.client };
}
