/**
 * Turns an image config, and what the caller wants otherwise, into the config.json of an OCI bundle, with docker's defaults.
 *
 * Where docker differs: there is no seccomp filter (the capabilities and masked paths are docker's); the network is the host's or none,
 * since nothing here sets up addresses; open files are limited to 1024, to be raised by the process, because node has raised
 * its own limit, which would be inherited, and programs that close every possible descriptor take seconds with a million.
 */
import { SkimError } from "../base/errors.js";
import type { ImageConfig } from "../image/config.js";
import type { SeedDirectory } from "../overlay/seed-directory.js";
import { type Accounts, type ContainerUser, resolveUser } from "./accounts.js";
import { annotationsOf } from "./annotations.js";
import { defaultMounts, defaultPath, maskedPaths, readonlyPaths } from "./docker-defaults.js";
import type { HostFacts } from "./host-facts.js";
import {
  isBelowProc,
  mergeEnvironment,
  normalPath,
  refuseNul,
  workingDirectory,
} from "./process-surroundings.js";
import { type ResourceLimits, resourcesOf } from "./resource-limits.js";
import type { RuntimeSpec, SpecMount } from "./runtime-spec.js";
import { type ProfileName, specProfiles } from "./spec-profiles.js";

/** FD_SETSIZE: what select(2) can take, and the kernel's own default. */
const openFilesSoft = 1024;

export interface RuntimeSpecOptions {
  readonly config: ImageConfig;
  /** The merged tree. */
  readonly rootfs: string;
  readonly accounts: Accounts;
  readonly host: HostFacts;
  /** In place of the image's Cmd; the entrypoint stays. Empty: as if not given. */
  readonly args?: readonly string[];
  /** In place of the image's Entrypoint; its Cmd is dropped then. */
  readonly entrypoint?: readonly string[];
  /** `NAME=value`, over the image's. */
  readonly env?: readonly string[];
  /** `user[:group]`, names or numbers. */
  readonly user?: string;
  readonly workdir?: string;
  /** Default: the host's. */
  readonly hostname?: string;
  /** Besides the default mounts; one with the destination of a default mount replaces it. */
  readonly mounts?: readonly SpecMount[];
  readonly readonlyRootfs?: boolean;
  /** The process gets a terminal of its own. */
  readonly terminal?: boolean;
  /** Default: host. */
  readonly network?: "host" | "none";
  readonly limits?: ResourceLimits;
  /** Default: docker. */
  readonly profile?: ProfileName;
  /** Directory on the host with the files of `nameFilesOf`, which the container gets. Default: it gets none of them. */
  readonly nameFiles?: string;
}

/**
 * Builds config.json. Throws USAGE for options that cannot be (no command, a relative or /proc working directory, a user that the
 * image does not have, two mounts in one place) and IMAGE_INVALID for the same in the image's config.
 */
export function buildRuntimeSpec(options: RuntimeSpecOptions): RuntimeSpec {
  const { config, host } = options;
  const user = resolveUser(
    options.user ?? config.user,
    options.accounts,
    options.user === undefined ? "image" : "option",
  );
  const network = options.network ?? "host";
  const hostname = options.hostname === undefined ? host.hostname : requireHostname(options.hostname);
  const terminal = options.terminal ?? false;
  const { capabilities, noNewPrivileges } = specProfiles[options.profile ?? "docker"];
  const processCapabilities = user.uid === 0 ? capabilities : [];
  const annotations = annotationsOf(config);
  return {
    ociVersion: "1.0.2",
    process: {
      terminal,
      user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
      args: refuseNul(commandLine(options), "the command"),
      env: refuseNul(environment(options, user, hostname, terminal), "the environment"),
      cwd: imageDirectory(config, options.workdir),
      capabilities: {
        // Inheritable and ambient stay empty, as in docker since CVE-2022-24769.
        bounding: capabilities,
        effective: processCapabilities,
        permitted: processCapabilities,
      },
      rlimits: [
        { type: "RLIMIT_NOFILE", soft: Math.min(openFilesSoft, host.openFilesMax), hard: host.openFilesMax },
      ],
      noNewPrivileges,
    },
    root: { path: options.rootfs, readonly: options.readonlyRootfs ?? false },
    hostname,
    ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
    mounts: allMounts(options.mounts ?? [], nameFileMounts(options)),
    linux: {
      // The runtime allows the devices that it makes (null, zero, full, random, urandom, tty, ptmx).
      resources: { devices: [{ allow: false, access: "rwm" }], ...resourcesOf(options.limits) },
      namespaces: [
        { type: "pid" },
        { type: "ipc" },
        { type: "uts" },
        { type: "mount" },
        ...(network === "none" ? [{ type: "network" }] : []),
        // With v1 the container would see its own paths in /proc/self/cgroup but the host's hierarchies.
        ...(host.cgroup === "v2" ? [{ type: "cgroup" }] : []),
      ],
      maskedPaths,
      readonlyPaths,
    },
  };
}

/** What sethostname(2) takes, in a form that is one word in /etc/hosts. Throws USAGE. */
function requireHostname(name: string): string {
  if (/^[\w.-]{1,64}$/.test(name)) return name;
  throw new SkimError(
    "USAGE",
    `host name ${JSON.stringify(name)} cannot be: it has 1 to 64 letters, digits, periods, hyphens and underscores; give another (--hostname)`,
  );
}

/** Directories that have to be in the rootfs before the container starts: its working directory and the image's volumes. */
export function containerDirectories(config: ImageConfig, workdir?: string): SeedDirectory[] {
  const volumes = config.volumes.filter((volume) => volume.startsWith("/") && !isBelowProc(volume));
  return [imageDirectory(config, workdir), ...volumes.map(normalPath)]
    .filter((directory) => directory !== "/")
    .map((directory) => ({ path: directory }));
}

/** argv of the container's process. Throws USAGE where neither image nor options name a command. */
export function commandLine({
  config,
  args = [],
  entrypoint,
}: Pick<RuntimeSpecOptions, "config" | "args" | "entrypoint">): readonly string[] {
  const cmd = entrypoint === undefined ? config.cmd : [];
  const command = [...(entrypoint ?? config.entrypoint), ...(args.length > 0 ? args : cmd)];
  if (command.length > 0) return command;
  throw new SkimError("USAGE", "the image has no command (neither Entrypoint nor Cmd); give one behind --");
}

function environment(
  { config, env = [] }: RuntimeSpecOptions,
  user: ContainerUser,
  hostname: string,
  terminal: boolean,
): string[] {
  const own = [`PATH=${defaultPath}`, `HOSTNAME=${hostname}`, ...(terminal ? ["TERM=xterm"] : [])];
  const merged = mergeEnvironment([...own, ...config.env, ...env]);
  const hasHome = merged.some((one) => one.startsWith("HOME=") && one !== "HOME=");
  return hasHome ? merged : mergeEnvironment([...merged, `HOME=${user.home}`]);
}

function imageDirectory(config: ImageConfig, workdir: string | undefined): string {
  return workdir === undefined
    ? workingDirectory(config.workingDir, "image")
    : workingDirectory(workdir, "option");
}

/**
 * The files by which a container knows its name and finds others, by their names in /etc. In the host's network the host's own resolv.conf and hosts
 * are bound instead; without a network there is nobody to be found.
 */
export function nameFilesOf({
  hostname,
  host,
  network = "host",
}: Pick<RuntimeSpecOptions, "hostname" | "host" | "network">): Readonly<Record<string, string>> {
  const name = hostname ?? host.hostname;
  return {
    hostname: `${name}\n`,
    ...(network === "none"
      ? {
          hosts: `127.0.0.1\tlocalhost ${name}\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n`,
        }
      : {}),
  };
}

function nameFileMounts(options: RuntimeSpecOptions): SpecMount[] {
  const { host, network = "host", nameFiles } = options;
  const bind = (destination: string, source: string): SpecMount => ({
    destination,
    type: "bind",
    source,
    options: ["bind", "ro", "rprivate"],
  });
  const own = nameFiles === undefined ? [] : Object.keys(nameFilesOf(options));
  return [
    ...(network === "host" ? host.nameFiles.map((file) => bind(file, file)) : []),
    ...own.map((name) => bind(`/etc/${name}`, `${nameFiles}/${name}`)),
  ];
}

function allMounts(extra: readonly SpecMount[], nameFiles: readonly SpecMount[]): SpecMount[] {
  const byDestination = new Map<string, SpecMount>();
  for (const mount of defaultMounts) byDestination.set(mount.destination, mount);
  for (const mount of nameFiles) byDestination.set(mount.destination, mount);
  const given = new Set<string>();
  for (const mount of extra) {
    const destination = normalPath(mount.destination);
    if (!mount.destination.startsWith("/") || destination === "/" || isBelowProc(destination)) {
      throw new SkimError(
        "USAGE",
        `mount target ${JSON.stringify(mount.destination)} cannot be used: it must be an absolute path, not / and not in /proc`,
      );
    }
    if (given.has(destination)) {
      throw new SkimError("USAGE", `two mounts have the target ${destination}; leave one out`);
    }
    given.add(destination);
    byDestination.set(destination, { ...mount, destination });
  }
  // A mount hides what is mounted below it before: parents first, in the given order otherwise.
  const depth = (mount: SpecMount) => mount.destination.split("/").length;
  return [...byDestination.values()].sort((a, b) => depth(a) - depth(b));
}
