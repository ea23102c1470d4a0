/** What crosses the daemon's socket: requests and answers, checked on arrival and documented from here (api.ts, `skim daemon openapi`). */
import { z } from "@hono/zod-openapi";
import { errorTable } from "../base/errors.js";
import { logLevels } from "../base/logger.js";

const absolutePath = z.string().regex(/^\/[^\0]*$/, "an absolute path is needed");
const id = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/, "1 to 64 letters, digits, and _ . - behind the first");

export const idParameter = z.object({
  id: id.openapi({ param: { name: "id", in: "path" }, example: "job-1" }),
});

const processIdentity = z
  .object({ pid: z.int().positive(), startTicks: z.number().nonnegative() })
  .describe("A process: its pid, and field 22 of /proc/PID/stat.");

const access = z
  .object({
    insecureRegistries: z.array(z.string()).optional(),
    mirrors: z.record(z.string(), z.array(z.string())).optional(),
    environment: z
      .partialRecord(
        z.enum(["HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "PATH"]),
        z.string(),
      )
      .optional()
      .describe("Where credentials are looked for."),
  })
  .describe("How registries are reached where that is not what the daemon is set to.");

const imageRequest = {
  id,
  image: z
    .string()
    .min(1)
    .describe(
      "An archive's file (absolute path), or the name of an image, which is indexed first if need be.",
    ),
  source: z
    .string()
    .optional()
    .describe("Image whose registry serves the layers instead of the one the archive names."),
  platform: z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() }).optional(),
  prefetch: z.enum(["auto", "start-set", "none"]).optional(),
  backgroundFill: z
    .union([z.enum(["off", "idle"]), z.number().positive()])
    .optional()
    .describe("A number: compressed bytes a second."),
  recordProfile: z.boolean().optional(),
  command: z
    .object({ args: z.array(z.string()).optional(), entrypoint: z.array(z.string()).optional() })
    .optional()
    .describe("What will run, so that it can be fetched ahead."),
  access: access.default({}),
  token: z
    .string()
    .max(64)
    .optional()
    .describe(
      "A request that is sent again, because its answer was lost, with the same token replaces what it made.",
    ),
};

export const rootfsRequest = z
  .strictObject({
    ...imageRequest,
    kind: z.enum(["rootfs", "bundle", "run"]).optional(),
    upper: absolutePath.optional().describe("Writable layer of the caller's own, kept afterwards."),
    tmpfsUpper: z.boolean().optional().describe("Writable layer in memory."),
    merged: absolutePath.optional().describe("Where the result is mounted; default: a directory of skim's."),
    dirs: z
      .array(
        z.strictObject({
          path: absolutePath,
          mode: z.int().min(0).max(0o7777).optional(),
          uid: z.int().nonnegative().optional(),
          gid: z.int().nonnegative().optional(),
        }),
      )
      .optional()
      .describe("Directories that must be there, besides proc, sys, dev and tmp."),
    ownDirectories: z.array(absolutePath).optional(),
    owner: processIdentity.optional().describe("The rootfs goes when this process has ended."),
  })
  .openapi("RootfsRequest");

export const rootfs = z
  .object({
    id,
    imageId: z.string().describe("Of the shared mount that it stands on."),
    lower: absolutePath,
    upper: absolutePath,
    work: absolutePath,
    merged: absolutePath,
  })
  .openapi("Rootfs");

export const mountRequest = z
  .strictObject({ ...imageRequest, directory: absolutePath.describe("An empty directory.") })
  .openapi("MountRequest");

export const mount = z.object({ id, imageId: z.string(), mountpoint: absolutePath }).openapi("Mount");

export const removal = z
  .object({ id, upper: absolutePath.optional().describe("Where the writable layer is, if it was kept.") })
  .openapi("Removal");

const flag = z.enum(["true", "false"]).optional();
export const removalQuery = z.object({ force: flag, keepUpper: flag });

export const listed = z
  .object({
    id: z.string(),
    kind: z.enum(["mount", "rootfs", "bundle", "run", "image"]),
    reference: z.string(),
    lower: z.string(),
    pid: z.number().optional(),
    alive: z.boolean(),
    createdAt: z.string(),
    imageId: z.string().optional(),
    overlayOptions: z.array(z.record(z.string(), z.string())).optional(),
    users: z.array(z.string()).optional().describe("Of an image: the ids of what stands on it."),
  })
  .openapi("Listed");

export const warmRequest = z
  .strictObject({ image: imageRequest.image, source: imageRequest.source, access: access.default({}) })
  .openapi("WarmRequest");

export const health = z
  .object({
    status: z.enum(["ok"]),
    version: z.string(),
    pid: z.number(),
    startedAt: z.string(),
    restarts: z.number().describe("How often this server has been started again under its mounts."),
    cacheDir: z.string(),
    images: z.number(),
    rootfs: z.number(),
    pending: z.number().describe("Requests to mount that are under way."),
    draining: z.boolean(),
    keeper: z.enum(["holder", "systemd"]),
  })
  .openapi("Health");

export const readiness = z.object({ ready: z.boolean(), why: z.string().optional() }).openapi("Readiness");

export const logQuery = z.object({
  lines: z.coerce.number().int().min(1).max(10_000).default(200),
  level: z.enum(logLevels).optional(),
});

export const shutdownRequest = z
  .strictObject({ force: z.boolean().default(false) })
  .openapi("ShutdownRequest");

export const leftovers = z
  .array(z.object({ kind: z.string(), name: z.string(), why: z.string(), kept: z.string().optional() }))
  .openapi("Leftovers");

/** `code`: see README, "Exit codes". */
export const failure = z
  .object({ code: z.enum(Object.keys(errorTable) as [string, ...string[]]), message: z.string() })
  .openapi("Failure");

export const anyObject = z.looseObject({});
export const listQuery = z.object({ kind: z.enum(["image", "mount", "rootfs"]).optional() });
export const gcQuery = z.object({ remove: flag, all: flag });

export type RootfsRequestBody = z.input<typeof rootfsRequest>;
export type MountRequestBody = z.input<typeof mountRequest>;
export type RootfsAnswer = z.infer<typeof rootfs>;
export type MountAnswer = z.infer<typeof mount>;
export type RemovalAnswer = z.infer<typeof removal>;
export type ListedAnswer = z.infer<typeof listed>;
export type HealthAnswer = z.infer<typeof health>;
export type LeftoversAnswer = z.infer<typeof leftovers>;
