/**
 * What is examined: an image, how it is to be started, and the tree that its container will have. Nothing is read before a check asks.
 *
 * The options are those of `skim run`. What of them cannot be (no such user, a working directory in /proc) is kept as what a check will say, and the
 * rest goes on as if it were the default: all problems are to be found in one run.
 */
import type { Archive } from "../archive/archive.js";
import { type ByteString, byteStringFromText } from "../base/byte-string.js";
import { describeError, isSkimError } from "../base/errors.js";
import { ErrnoError } from "../filesystem/errno-error.js";
import { type FileContent, ImageFilesystem } from "../filesystem/image-filesystem.js";
import type { ImageConfig } from "../image/config.js";
import { canonicalMode, defaultSeeds, type SeedDirectory } from "../overlay/seed-directory.js";
import type { Command } from "../program/env-command.js";
import { ProgramImage } from "../program/program-image.js";
import { ReadAllowance } from "../program/read-allowance.js";
import { type StartedProgram, startPrograms } from "../program/start-programs.js";
import { type Accounts, type ContainerUser, resolveUser } from "../runtime/accounts.js";
import { defaultPath } from "../runtime/docker-defaults.js";
import { commandLine, containerDirectories } from "../runtime/oci-spec.js";
import type { RuntimeName } from "../runtime/runtime-command.js";
import type { SpecMount } from "../runtime/runtime-spec.js";
import { ContainerTree } from "./container-tree.js";
import type { ExaminedHost } from "./examined-host.js";
import type { ToolProfile } from "./tool-profiles.js";
import { UserView } from "./user-view.js";

const MiB = 1024 * 1024;
/** Compressed bytes that may be fetched: some ten heads of programs, a span each, take a few MB. A layer that can only be read from its start may take more. */
export const fetchBytesMaxDefault = 64 * MiB;
/** As for a container: an accounts file of a hundred thousand users has 6 MB, which fits one read of a program's. */
const accountsBytesMax = 4 * MiB;

/** How the image is to be started, as `skim run` has it, and what else is asked of it. */
export interface ExaminedStart {
  /** In place of the image's Cmd. */
  readonly args?: readonly string[];
  /** In place of the image's Entrypoint; its Cmd is dropped then. */
  readonly entrypoint?: readonly string[];
  /** `NAME=value`, over the image's. */
  readonly env?: readonly string[];
  readonly user?: string;
  /** Supplementary groups, in place of those that the image's accounts give `user`. */
  readonly additionalGids?: readonly number[];
  readonly workdir?: string;
  /** They look for commands in different ways. Default: runc. */
  readonly runtime?: RuntimeName;
  readonly mounts?: readonly SpecMount[];
  /** Directories that are made where the image has none. */
  readonly directories?: readonly SeedDirectory[];
  /** Files and directories of this host that will be at a path of the container, by bind mounts. */
  readonly injected?: readonly InjectedPath[];
  /** Programs that must be there besides what is started. */
  readonly tools?: readonly string[];
  readonly toolProfile?: ToolProfile;
  /** Libraries and versions of symbols too: the head of each library is read. */
  readonly deps?: boolean;
}

export interface InjectedPath {
  /** Absolute path on this host. */
  readonly host: string;
  /** Absolute path in the container. */
  readonly path: string;
}

export interface SubjectParts {
  readonly archive: Archive;
  readonly content: FileContent;
  readonly host: ExaminedHost;
  readonly start: ExaminedStart;
  /** Spans of a recorded start of this command; undefined where none was recorded. */
  readonly profiledSpans?: readonly number[];
  /** Default: 64 MiB. */
  readonly fetchBytesMax?: number;
  readonly signal?: AbortSignal;
}

export class Subject {
  readonly archive: Archive;
  readonly config: ImageConfig;
  readonly host: ExaminedHost;
  readonly start: ExaminedStart;
  readonly profiledSpans: readonly number[] | undefined;
  /** The image alone. */
  readonly filesystem: ImageFilesystem;
  /** The image with what is made and mounted. */
  readonly tree: ContainerTree;
  /** Undefined where it cannot be told who it is: then root is taken. */
  readonly user: ContainerUser | undefined;
  /** Why not. */
  readonly userProblem: string | undefined;
  /** The image has accounts that would take too much to read: that somebody is not among those that were read says nothing. */
  readonly accountsUnread: boolean;
  /** What the user sees. */
  readonly view: UserView;
  /** Programs as the user finds them. */
  readonly programs: ProgramImage;
  /** The image alone, as root has it. */
  readonly imagePrograms: ProgramImage;
  /** Undefined where neither the image nor the caller names one. */
  readonly command: Command | undefined;
  /** Absolute. */
  readonly workingDir: ByteString;
  /** Environment, PATH and HOME among it. */
  readonly env: readonly ByteString[];
  readonly home: string;
  /** Of the image and the caller: mount targets, working directory, volumes. */
  readonly seeds: readonly SeedDirectory[];
  readonly #imageBytesRead: () => number;
  #started: Promise<readonly StartedProgram[]> | undefined;

  private constructor(parts: SubjectParts, trees: Trees, accounts: Accounts & { readonly unread: boolean }) {
    const { archive, start } = parts;
    const { config } = archive;
    this.archive = archive;
    this.config = config;
    this.host = parts.host;
    this.start = start;
    this.profiledSpans = parts.profiledSpans;
    this.#imageBytesRead = trees.imageBytesRead;
    this.filesystem = trees.filesystem;
    this.tree = trees.tree;
    const { additionalGids: givenGids } = start;
    const user = attempt(() => ({
      ...resolveUser(start.user ?? config.user, accounts, start.user === undefined ? "image" : "option"),
      ...(givenGids ? { additionalGids: givenGids } : {}),
    }));
    this.user = user.value;
    this.userProblem = user.problem;
    this.accountsUnread = accounts.unread;
    const { uid = 0, gid = 0, additionalGids = [], home = "/" } = user.value ?? {};
    this.view = new UserView(trees.tree, { uid, gids: [gid, ...additionalGids] });
    const programOptions = {
      mayRead: trees.mayRead,
      readsAhead: true,
      ...(parts.signal ? { signal: parts.signal } : {}),
    };
    this.programs = new ProgramImage(this.view, programOptions);
    this.imagePrograms = new ProgramImage(trees.filesystem, programOptions);
    const env = environment(config, start, home);
    this.home = env.get("HOME")!;
    this.env = [...env].map(([name, value]) => byteStringFromText(`${name}=${value}`));
    const workingDir = start.workdir ?? config.workingDir;
    this.workingDir = byteStringFromText(workingDir.startsWith("/") ? workingDir : `/${workingDir}`);
    const args = attempt(() => commandLine({ config, ...commandOptions(start) })).value;
    this.command = args && this.commandOf(args.map(byteStringFromText));
    this.seeds = seedsOf(config, start);
  }

  /** Reads the accounts. Rejects as reading the image does. */
  static async open(parts: SubjectParts): Promise<Subject> {
    const { archive, content, fetchBytesMax = fetchBytesMaxDefault, signal } = parts;
    let imageBytesRead = 0;
    const counted: FileContent = {
      read(request) {
        imageBytesRead += request.into.length;
        return content.read(request);
      },
    };
    const filesystem = new ImageFilesystem({ archive, content: counted });
    const tree = new ContainerTree(filesystem);
    const allowance = new ReadAllowance(archive, fetchBytesMax);
    const mayRead = (ino: number, offset: number, length: number) =>
      ino > tree.imageInodes || allowance.take(ino, offset, length);
    // Before anything is mounted: skim looks users up in the image.
    const reader = new ProgramImage(tree, { mayRead, readsAhead: true, ...(signal ? { signal } : {}) });
    const [passwd, group] = await Promise.all(
      ["/etc/passwd", "/etc/group"].map((path) => accountsFile(reader, path as ByteString)),
    );
    const accounts = {
      passwd: passwd?.text,
      group: group?.text,
      unread: [passwd, group].some((file) => file && file.text === undefined),
    };
    const trees = { filesystem, tree, mayRead, imageBytesRead: () => imageBytesRead };
    const subject = new Subject(parts, trees, accounts);
    subject.#stack();
    return subject;
  }

  /** What the command starts; found out once. */
  started(): Promise<readonly StartedProgram[]> {
    const libraries = this.start.deps ?? false;
    this.#started ??= this.command
      ? startPrograms(this.programs, this.command, { libraries })
      : Promise.resolve([]);
    return this.#started;
  }

  /** A command line as the container's process would start it. */
  commandOf(args: readonly ByteString[]): Command {
    return { args, env: this.env, directory: this.workingDir };
  }

  /** Of files, the image's and the host's, so far. */
  get bytesRead(): number {
    return this.#imageBytesRead() + this.tree.hostBytesRead;
  }

  get access() {
    const { uid = 0, gid = 0, additionalGids = [] } = this.user ?? {};
    return { uid, gids: [gid, ...additionalGids] };
  }

  /** `root`, or `user 1000` */
  get userText(): string {
    return this.access.uid === 0 ? "root" : `user ${this.access.uid}`;
  }

  /** Directories are made before anything is mounted. What cannot be made or mounted, checks say. */
  #stack(): void {
    for (const { path, mode } of this.seeds)
      tolerant(() => this.tree.makeDirectory(byteStringFromText(path), mode ?? canonicalMode(path)));
    const { mounts = [], injected = [] } = this.start;
    const stacked = [
      ...mounts.map((mount) => ({ ...mount, target: byteStringFromText(mount.destination) })),
      ...injected.map(({ host, path }) => ({
        ...{ type: "bind", source: host, options: [], target: byteStringFromText(path) },
      })),
    ];
    // A mount hides what is mounted below it before.
    const depth = ({ target }: { target: ByteString }) => target.split("/").filter(Boolean).length;
    for (const mount of stacked.sort((a, b) => depth(a) - depth(b)))
      tolerant(() =>
        this.tree.mount(
          mount.target,
          mount.type === "bind"
            ? { host: byteStringFromText(mount.source) }
            : { directoryMode: tmpfsMode(this.tree, mount.target, mount.options) },
        ),
      );
  }
}

interface Trees {
  readonly filesystem: ImageFilesystem;
  readonly tree: ContainerTree;
  readonly mayRead: (ino: number, offset: number, length: number) => boolean;
  readonly imageBytesRead: () => number;
}

function commandOptions({ args, entrypoint }: ExaminedStart) {
  return { ...(args ? { args } : {}), ...(entrypoint ? { entrypoint } : {}) };
}

function environment(config: ImageConfig, start: ExaminedStart, home: string): Map<string, string> {
  const values = new Map([["PATH", defaultPath]]);
  for (const entry of [...config.env, ...(start.env ?? [])]) {
    const equals = entry.indexOf("=");
    if (equals > 0) values.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  if (!values.get("HOME")) values.set("HOME", home);
  return values;
}

/** Each once; a mode that the caller gives counts. */
function seedsOf(config: ImageConfig, start: ExaminedStart): SeedDirectory[] {
  const needed =
    attempt(() => containerDirectories(config, start.workdir)).value ??
    containerDirectories({ ...config, workingDir: "" });
  const seeds = new Map<string, SeedDirectory>();
  for (const seed of [...defaultSeeds, ...needed, ...(start.directories ?? [])]) seeds.set(seed.path, seed);
  return [...seeds.values()];
}

/** Undefined where there is none; without text where it may not be read. */
async function accountsFile(image: ProgramImage, path: ByteString) {
  const { file } = image.find(path);
  if (!file) return undefined;
  const bytes = await image.readSmall(file, accountsBytesMax);
  return { text: bytes?.toString("utf8") };
}

/** runc (1.1) gives a tmpfs the mode of the directory that it covers, whatever the mount's options say. */
function tmpfsMode(tree: ContainerTree, target: ByteString, options: readonly string[]): number {
  try {
    const found = tree.attributes(tree.realPath(target).ino);
    return found.mode & 0o7777;
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    const given = options.find((option) => option.startsWith("mode="))?.slice("mode=".length);
    return given === undefined ? 0o1777 : Number.parseInt(given, 8);
  }
}

/** What a container would be refused for. */
function attempt<T>(make: () => T): { readonly value?: T; readonly problem?: string } {
  try {
    return { value: make() };
  } catch (error) {
    if (isSkimError(error, "USAGE") || isSkimError(error, "IMAGE_INVALID"))
      return { problem: describeError(error) };
    throw error;
  }
}

function tolerant(act: () => void): void {
  try {
    act();
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
  }
}
