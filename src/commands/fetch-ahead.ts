import { type Command, InvalidArgumentError, Option } from "commander";
import { parseByteAmount } from "../base/byte-amount.js";
import type { BackgroundFillMode, FetchAheadOptions, PrefetchMode } from "../mount/fetch-ahead.js";

const modes: readonly PrefetchMode[] = ["auto", "start-set", "none"];

export interface FetchAheadCommandOptions {
  prefetch?: PrefetchMode;
  backgroundFill?: BackgroundFillMode;
  recordProfile?: boolean;
}

/** Options of every command that mounts: what is fetched before it is read. */
export function withFetchAheadOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        "--prefetch <mode>",
        "what to fetch before it is read: the recorded start profile or else the start set of the archive; that set; nothing, and no read-ahead",
      )
        .choices([...modes])
        .default("auto"),
    )
    .addOption(
      new Option(
        "--background-fill <off|idle|RATE>",
        "fetch the rest of the image: never, while nobody reads, or with that many bytes a second (e.g. 20MB)",
      )
        .argParser(parseFill)
        .default("off"),
    )
    .option(
      "--record-profile",
      "note what the start reads (at most a minute), to be fetched ahead by the next one",
    );
}

function parseFill(text: string): BackgroundFillMode {
  if (text === "off" || text === "idle") return text;
  const rate = bytesPerSecond(text);
  if (!rate) throw new InvalidArgumentError("off, idle, or bytes a second such as 20MB.");
  return rate;
}

/** Undefined for what is no amount of bytes. */
function bytesPerSecond(text: string): number | undefined {
  try {
    const amount = parseByteAmount(text);
    return "bytes" in amount ? amount.bytes : undefined;
  } catch {
    return undefined;
  }
}

export function fetchAheadRequest(options: FetchAheadCommandOptions): FetchAheadOptions {
  const { prefetch, backgroundFill, recordProfile } = options;
  return {
    ...(prefetch ? { prefetch } : {}),
    ...(backgroundFill ? { backgroundFill } : {}),
    ...(recordProfile ? { recordProfile } : {}),
  };
}
