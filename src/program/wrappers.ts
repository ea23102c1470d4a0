/** Programs that replace themselves by, or start, the command that stands behind their own options: `tini -g -- node`, `gosu app node`, `timeout -k 5 60 node`. */
import type { ByteString } from "../base/byte-string.js";

interface Wrapper {
  /** Letters of options whose value is the next word. */
  readonly valued: string;
  /** Words of its own before the command: a user, a duration. */
  readonly ownWords: number;
}

const tini: Wrapper = { valued: "pe", ownWords: 0 };
const wrappers: Readonly<Record<string, Wrapper>> = {
  tini,
  "tini-static": tini,
  "docker-init": tini,
  "dumb-init": { valued: "r", ownWords: 0 },
  catatonit: { valued: "", ownWords: 0 },
  gosu: { valued: "", ownWords: 1 },
  "su-exec": { valued: "", ownWords: 1 },
  nohup: { valued: "", ownWords: 0 },
  nice: { valued: "n", ownWords: 0 },
  stdbuf: { valued: "ioe", ownWords: 0 },
  timeout: { valued: "ks", ownWords: 1 },
};

export function isWrapper(name: string): boolean {
  return Object.hasOwn(wrappers, name);
}

/** The command that `args` (the wrapper's name first) run; undefined where there is none, or an option is not known well enough to tell. */
export function wrappedCommand(name: string, args: readonly ByteString[]): readonly ByteString[] | undefined {
  if (!isWrapper(name)) return undefined;
  const { valued, ownWords } = wrappers[name]!;
  let at = 1;
  for (let arg = args[at]; arg?.startsWith("-"); arg = args[at]) {
    at++;
    if (arg === "--") break;
    // A long option's value may be the next word.
    if (arg.startsWith("--") && !arg.includes("=")) return undefined;
    if (!arg.startsWith("--") && valued.includes(arg.at(-1)!)) at++;
  }
  const rest = args.slice(at + ownWords);
  return rest.length > 0 ? rest : undefined;
}
