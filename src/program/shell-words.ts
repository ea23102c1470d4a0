/**
 * The simple commands of a shell's program text, as far as they can be told without running it: `cd /app && exec python3 "main.py"` starts cd
 * and python3. Where a word depends on a variable, a substitution or a pattern, reading ends: what is behind it may depend on it too.
 */
import type { ByteString } from "../base/byte-string.js";

/** A start is about the first of them. */
const commandsMax = 8;
/** Words in front of a command that run it in their own place. */
const transparent = new Set([
  "exec",
  "command",
  "nohup",
  "time",
  "!",
  "{",
  "then",
  "do",
  "else",
  "if",
  "while",
  "until",
]);
const assignment = /^[A-Za-z_][A-Za-z0-9_]*=/;

/** Words of each command, in order; empty commands are left out. */
export function shellCommands(text: ByteString): ByteString[][] {
  const commands: ByteString[][] = [];
  let words: string[] = [];
  let word: string | undefined;
  const endWord = () => {
    if (word !== undefined) words.push(word);
    word = undefined;
  };
  const endCommand = () => {
    endWord();
    const command = withoutPrefix(words);
    if (command.length > 0) commands.push(command as ByteString[]);
    words = [];
  };
  for (let at = 0; at < text.length && commands.length < commandsMax; at++) {
    const char = text[at]!;
    if (char === "#" && word === undefined) {
      const end = text.indexOf("\n", at);
      at = end < 0 ? text.length : end - 1;
    } else if (char === " " || char === "\t") endWord();
    else if (/[;&|\n]/.test(char)) endCommand();
    else if (char === "\\") {
      const next = text[++at];
      if (next !== undefined && next !== "\n") word = (word ?? "") + next;
    } else if (char === "'" || char === '"') {
      const end = text.indexOf(char, at + 1);
      const quoted = end < 0 ? undefined : text.slice(at + 1, end);
      if (quoted === undefined || (char === '"' && /[$`\\]/.test(quoted))) return known(commands, words);
      word = (word ?? "") + quoted;
      at = end;
    } else if (/[$`<>(){}*?[\]~]/.test(char)) return known(commands, words);
    else word = (word ?? "") + char;
  }
  endCommand();
  return commands.slice(0, commandsMax);
}

/** What was complete when reading had to end: the command that has its first words as well. */
function known(commands: ByteString[][], words: readonly string[]): ByteString[][] {
  const command = withoutPrefix(words);
  return command.length > 0 ? [...commands, command as ByteString[]] : commands;
}

function withoutPrefix(words: readonly string[]): readonly string[] {
  const first = words.findIndex((word) => !transparent.has(word) && !assignment.test(word));
  return first < 0 ? [] : words.slice(first);
}

/** What shells do by themselves, and go on. */
const quietBuiltins = new Set([
  ":",
  "cd",
  "echo",
  "export",
  "printf",
  "set",
  "true",
  "trap",
  "ulimit",
  "umask",
  "wait",
]);
/** Where one of these is in a text, a program in it may be an alternative, a function, or never be come to. */
const conditional =
  /\|\||[`!]|(?<!\$)[({]|\bPATH=|(^|[;&|\s])(\.|\[+|alias|builtin|case|command|eval|exit|for|function|hash|if|read|return|select|shift|source|test|type|unset|until|which|while)(\s|;|$)/;

/** The program that a shell's text starts first, whatever happens; undefined where that cannot be told. */
export function firstProgram(text: ByteString): ByteString[] | undefined {
  if (conditional.test(text)) return undefined;
  const commands = shellCommands(text);
  const first = commands.find(([name]) => !quietBuiltins.has(name!));
  // Where the shell is by then is not followed.
  const hasMoved = commands.some(([name]) => name === "cd");
  return hasMoved && /^[^/]+\//.test(first?.[0] ?? "") ? undefined : first;
}
