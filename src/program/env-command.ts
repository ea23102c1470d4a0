/**
 * What env(1) starts: `env [OPTION]... [NAME=VALUE]... COMMAND [ARG]...`, with -S, which cuts one argument into several and is how a
 * script's line gives more than one. Source: GNU coreutils 9, src/env.c.
 */
import type { ByteString } from "../base/byte-string.js";

export interface Command {
  readonly args: readonly ByteString[];
  /** `NAME=value` */
  readonly env: readonly ByteString[];
  /** Absolute. */
  readonly directory: ByteString;
}

/** Options that take the next argument, where their value does not follow in the same one. */
const valued = new Map<string, "unset" | "chdir" | "split" | "other">([
  ["-u", "unset"],
  ["-C", "chdir"],
  ["-S", "split"],
  ["-a", "other"],
  ["--unset", "unset"],
  ["--chdir", "chdir"],
  ["--split-string", "split"],
  ["--argv0", "other"],
]);
/** Words of -S: more than any line of a script has. */
const splitsMax = 8;

/** The command that `env` with these arguments (its own name not among them) runs; undefined where there is none. */
export function envCommand(command: Command): Command | undefined {
  let args = [...command.args];
  let env = [...command.env];
  let { directory } = command;
  let splits = 0;
  for (let arg = args[0]; arg !== undefined; arg = args[0]) {
    args = args.slice(1);
    if (arg === "--") break;
    if (arg === "-" || arg === "-i" || arg === "--ignore-environment") {
      env = [];
      continue;
    }
    if (!arg.startsWith("-")) {
      args.unshift(arg);
      break;
    }
    const option = optionOf(arg);
    const kind = valued.get(option.name);
    // -v, -0 and letters together: whatever else is in them, S is the last.
    if (kind === undefined) continue;
    const value = option.value ?? (args.shift() as ByteString | undefined);
    if (value === undefined) return undefined;
    if (kind === "unset") env = env.filter((one) => !one.startsWith(`${value}=`));
    if (kind === "chdir") directory = (value.startsWith("/") ? value : `${directory}/${value}`) as ByteString;
    if (kind === "split") {
      if (++splits > splitsMax) return undefined;
      const words = splitString(value, env);
      if (words === undefined) return undefined;
      args.unshift(...words);
    }
  }
  while (args[0]?.includes("=")) {
    const [assignment] = args.splice(0, 1) as [ByteString];
    const name = assignment.slice(0, assignment.indexOf("=") + 1);
    env = [...env.filter((one) => !one.startsWith(name)), assignment];
  }
  return args.length > 0 ? { args, env, directory } : undefined;
}

function optionOf(arg: ByteString): { name: string; value: ByteString | undefined } {
  if (arg.startsWith("--")) {
    const equals = arg.indexOf("=");
    return equals < 0
      ? { name: arg, value: undefined }
      : { name: arg.slice(0, equals), value: arg.slice(equals + 1) as ByteString };
  }
  // The first letter that takes a value ends a group: -iS, -vS, -uNAME.
  const letter = /^-[^uCSa]*([uCSa])(.*)$/s.exec(arg);
  if (!letter) return { name: arg, value: undefined };
  return { name: `-${letter[1]}`, value: (letter[2] as ByteString) || undefined };
}

const escapes: Readonly<Record<string, string>> = { f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" };

/** The words of -S; undefined where env(1) would refuse it. */
export function splitString(text: ByteString, env: readonly ByteString[]): ByteString[] | undefined {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!;
    if (char === quote) quote = "";
    else if (!quote && (char === '"' || char === "'")) {
      quote = char;
      word ??= "";
    } else if (!quote && /[ \t\n\v\f\r]/.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (!quote && char === "#" && word === undefined) break;
    else if (char === "\\" && (quote !== "'" || /['\\]/.test(text[at + 1] ?? ""))) {
      const next = text[++at];
      if (next === undefined) return undefined;
      if (next === "c") break;
      if (next === "_" && !quote) {
        if (word !== undefined) words.push(word);
        word = undefined;
      } else word = (word ?? "") + (next === "_" ? " " : (escapes[next] ?? next));
    } else if (char === "$" && quote !== "'") {
      const name = /^\$\{([A-Za-z_][A-Za-z0-9_]*)\}/.exec(text.slice(at));
      if (!name) return undefined;
      at += name[0].length - 1;
      const value = env.find((one) => one.startsWith(`${name[1]}=`));
      word = (word ?? "") + (value?.slice(name[1]!.length + 1) ?? "");
    } else word = (word ?? "") + char;
  }
  if (quote) return undefined;
  if (word !== undefined) words.push(word);
  return words as ByteString[];
}
