import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import type { ByteString } from "../../src/base/byte-string.js";
import { envCommand, splitString } from "../../src/program/env-command.js";
import { findCommand } from "../../src/program/find-command.js";
import { firstProgram, shellCommands } from "../../src/program/shell-words.js";
import { wrappedCommand } from "../../src/program/wrappers.js";
import { bytes, madeImage } from "./made-image.js";

const words = (...args: string[]) => args as ByteString[];
const command = (args: string[], env: string[] = [], directory = "/") => ({
  args: words(...args),
  env: words(...env),
  directory: bytes(directory),
});

describe("env(1)", () => {
  it.each<[string, string[], string[]]>([
    ["a command", ["python3", "-u"], ["python3", "-u"]],
    ["assignments in front", ["A=1", "B=2", "node"], ["node"]],
    ["options in front", ["-i", "-u", "HOME", "--unset=X", "sh"], ["sh"]],
    ["one that is split", ["-S", "python3 -u", "main.py"], ["python3", "-u", "main.py"]],
    ["one that is split in the same argument", ["-Spython3 -u", "main.py"], ["python3", "-u", "main.py"]],
    ["letters together", ["-ivS", "sh -e"], ["sh", "-e"]],
    ["the end of options", ["--", "-odd"], ["-odd"]],
    ["assignments within -S", ["-S", "A=1 -x"], ["-x"]],
  ])("runs what stands behind: %s", (_, args, run) => {
    expect(envCommand(command(args))?.args).toEqual(run);
  });

  it("changes environment and directory for the command", () => {
    const run = envCommand(command(["-u", "B", "-C", "app", "A=2", "x"], ["A=1", "B=1", "C=1"], "/srv"));
    expect(run).toEqual({ args: ["x"], env: ["C=1", "A=2"], directory: "/srv/app" });
    expect(envCommand(command(["-i", "A=2", "x"], ["A=1"]))?.env).toEqual(["A=2"]);
  });

  it("without a command runs nothing, and neither does an -S without end", () => {
    for (const args of [[], ["A=1"], ["-S"], ["-S", "'open"]])
      expect(envCommand(command(args))).toBeUndefined();
    const deep = Array.from({ length: 40 }, () => "-S");
    expect(envCommand(command([...deep, "x"]))?.args ?? []).not.toContain("-S");
  });

  it("splits as this machine's env does", async () => {
    const texts = [
      "a b  c",
      "'a b' \"c d\"",
      'a\\_b "c\\_d"',
      "a\\tb",
      "'it\\'s' \\\\",
      "x \x24{HOME}y \"\x24{HOME}\" '\x24{HOME}'",
      "a #comment",
      "a#b",
      "a \\c b",
      "'' \"\"",
    ];
    for (const text of texts) {
      const { stdout } = await promisify(execFile)("/usr/bin/env", ["-S", `printf %s| ${text}`], {
        env: { HOME: "/h o", PATH: "/usr/bin:/bin" },
      });
      const split = splitString(bytes(text), words("HOME=/h o"));
      expect(split?.map((word) => `${word}|`).join(""), text).toBe(stdout);
    }
  });
});

describe("a shell's text", () => {
  it.each<[string, string[][]]>([
    ["python3 main.py", [["python3", "main.py"]]],
    ["exec node server.js", [["node", "server.js"]]],
    [
      "cd /app && A=1 exec python3 -u 'my file.py'; echo done",
      [
        ["cd", "/app"],
        ["python3", "-u", "my file.py"],
        ["echo", "done"],
      ],
    ],
    ["a | b || c & d", [["a"], ["b"], ["c"], ["d"]]],
    ["# comment\nnode x # more\nls", [["node", "x"], ["ls"]]],
    ["java $OPTS -jar app.jar", [["java"]]],
    ["$RUNNER app", []],
    ['echo "$HOME"; python3', [["echo"]]],
    ["a\\ b c", [["a b", "c"]]],
    ["", []],
  ])("%j starts what can be told of it", (text, commands) => {
    expect(shellCommands(bytes(text))).toEqual(commands);
  });

  it("of any length gives a few commands", () => {
    expect(shellCommands(bytes("true;".repeat(10_000)))).toHaveLength(8);
  });
});

describe("a command's name", () => {
  const { image } = madeImage({
    "/usr/bin/tool": "tool",
    "/usr/local/bin/tool": { plain: "not executable" },
    "/usr/bin/text": { plain: "text" },
    "/bin": { link: "usr/bin" },
    "/opt/app/run": { link: "/usr/bin/tool" },
    "/opt/app/loop": { link: "loop" },
    "/srv/sub/here": "here",
  });
  const find = (name: string, env: string[] = [], directory?: string) =>
    findCommand(image(), bytes(name), command([name], env, directory));

  it("is looked for along PATH, past what cannot be executed, through symlinks within the image", () => {
    const path = "PATH=/usr/local/bin:/opt/app:/bin";
    expect(find("tool", [path])).toMatchObject({ path: "/bin/tool", file: { path: "/usr/bin/tool" } });
    expect(find("run", [path])).toMatchObject({ path: "/opt/app/run", file: { path: "/usr/bin/tool" } });
  });

  it("is looked for in /bin and /usr/bin without PATH", () => {
    expect(find("tool")).toMatchObject({ path: "/bin/tool" });
  });

  it("with a slash is a path from the working directory, whatever PATH says", () => {
    expect(find("sub/here", ["PATH=/bin"], "/srv")).toMatchObject({ file: { path: "/srv/sub/here" } });
    expect(find("./here", [], "/srv/sub")).toMatchObject({ file: { path: "/srv/sub/here" } });
    expect(find("here", ["PATH=:/bin"], "/srv/sub")).toMatchObject({ file: { path: "/srv/sub/here" } });
  });

  it("that means nothing says why, and where it was looked for", () => {
    expect(find("nothing", ["PATH=/usr/bin:/opt/app"])).toEqual({
      why: "ENOENT",
      searched: ["/usr/bin/nothing", "/opt/app/nothing"],
    });
    expect(find("text", ["PATH=/usr/bin"])).toMatchObject({ why: "EACCES" });
    expect(find("/opt/app/loop")).toMatchObject({ why: "ELOOP" });
    expect(find("/usr/bin")).toMatchObject({ why: "EISDIR" });
    expect(find("/usr/bin/tool/x")).toMatchObject({ why: "ENOTDIR" });
  });
});

describe("the program that a shell's text starts first, whatever happens", () => {
  it.each<[string, string[]]>([
    ["exec serve --port 80", ["serve", "--port", "80"]],
    ["cd /app && umask 022; serve", ["serve"]],
    ["cd app; /opt/serve", ["/opt/serve"]],
    ["java \x24{JAVA_OPTS} -jar app.jar", ["java"]],
    ["A=1 serve | tee log", ["serve"]],
  ])("%s", (text, program) => expect(firstProgram(bytes(text))).toEqual(program));

  it.each([
    "serve || fallback",
    "if test -e /x; then serve; fi",
    "[ -e /x ] && serve",
    "command -v serve && serve",
    ". ./env; serve",
    "serve() { true; }; serve",
    "PATH=/opt/bin serve",
    "cd app && bin/serve",
    "\x24{SERVE} --now",
    "! serve",
    "while true; do serve; done",
    "exit 1",
  ])("cannot be told of %s", (text) => expect(firstProgram(bytes(text))).toBeUndefined());
});

describe("what a wrapper runs", () => {
  it.each<[string[], string[] | undefined]>([
    [
      ["tini", "--", "node", "-x"],
      ["node", "-x"],
    ],
    [["tini", "-g", "-p", "SIGTERM", "node"], ["node"]],
    [["dumb-init", "-r", "15:9", "-c", "node"], ["node"]],
    [["gosu", "app:app", "node"], ["node"]],
    [["timeout", "-k", "5", "60", "node"], ["node"]],
    [["stdbuf", "-oL", "node"], ["node"]],
    [["nice", "-n", "5", "node"], ["node"]],
    [["nice", "--adjustment=5", "node"], ["node"]],
    [["nice", "--adjustment", "5", "node"], undefined],
    [["tini"], undefined],
    [["gosu", "app"], undefined],
    [["node", "server.js"], undefined],
  ])("%j", (args, run) => expect(wrappedCommand(args[0]!, words(...args))).toEqual(run));
});
