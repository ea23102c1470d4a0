/**
 * The daemon's API: HTTP over a Unix socket. Each route says what it takes and gives; the OpenAPI document is made of that, and daemon-client.ts is the same in TypeScript.
 *
 * A failure is `{ code, message }` with the code of the error table, and a status that says whose fault it is.
 */
import { createRoute, OpenAPIHono, z } from "@hono/zod-openapi";
import { HTTPException } from "hono/http-exception";
import { stream } from "hono/streaming";
import { describeError, type ErrorCode, isSkimError, SkimError, withLocalCode } from "../base/errors.js";
import { redact } from "../base/redact.js";
import { skimVersion } from "../base/version.js";
import * as schemas from "./api-schemas.js";
import type { Daemon } from "./daemon.js";
import { metricsContentType } from "./metrics.js";

type Status = 400 | 404 | 409 | 503 | 500 | 502;

/** Of a request; the longest that makes sense, with all its directories and mirrors, has some ten KiB. */
const requestBytesMax = 1024 * 1024;

const statusOf: Partial<Record<ErrorCode, Status>> = {
  USAGE: 400,
  NOT_FOUND: 404,
  PLATFORM_NOT_FOUND: 404,
  IN_USE: 409,
  BUSY: 503,
  AUTH_FAILED: 502,
  REGISTRY_UNAVAILABLE: 502,
  REGISTRY_PROTOCOL: 502,
  DEADLINE_EXCEEDED: 502,
};

/** A failed request can be sent again after so long, in seconds. */
const retryAfter = "1";

const failures = {
  default: { description: "A failure", content: { "application/json": { schema: schemas.failure } } },
} as const;

function answers<Schema extends z.ZodType>(description: string, schema: Schema) {
  return {
    200: { description, content: { "application/json": { schema } } },
    ...failures,
  } as const;
}

function takes<Schema extends z.ZodType>(schema: Schema) {
  return { body: { required: true, content: { "application/json": { schema } } } } as const;
}

/** Named as the functions of daemon-client.ts are. */
const routes = {
  health: createRoute({
    operationId: "health",
    method: "get",
    path: "/v1/health",
    summary: "Is the server alive",
    responses: answers("It is", schemas.health),
  }),
  ready: createRoute({
    operationId: "ready",
    method: "get",
    path: "/v1/ready",
    summary: "Does the server take mounts",
    responses: {
      200: { description: "It does", content: { "application/json": { schema: schemas.readiness } } },
      503: { description: "It does not", content: { "application/json": { schema: schemas.readiness } } },
    },
  }),
  list: createRoute({
    operationId: "list",
    method: "get",
    path: "/v1/mounts",
    summary: "Everything that is mounted: images, and what stands on them",
    request: { query: schemas.listQuery },
    responses: answers("A list", z.array(schemas.listed)),
  }),
  createMount: createRoute({
    operationId: "createMount",
    method: "post",
    path: "/v1/mounts",
    summary: "Show an image at a directory, read-only",
    request: takes(schemas.mountRequest),
    responses: answers("It is mounted", schemas.mount),
  }),
  createRootfs: createRoute({
    operationId: "createRootfs",
    method: "post",
    path: "/v1/rootfs",
    summary: "Mount a root filesystem: the image, with a writable layer on top",
    request: takes(schemas.rootfsRequest),
    responses: answers("It can be used", schemas.rootfs),
  }),
  remove: createRoute({
    operationId: "remove",
    method: "delete",
    path: "/v1/mounts/{id}",
    summary: "Undo a rootfs or a mount",
    request: { params: schemas.idParameter, query: schemas.removalQuery },
    responses: answers("It is gone", schemas.removal),
  }),
  stats: createRoute({
    operationId: "stats",
    method: "get",
    path: "/v1/mounts/{id}/stats",
    summary: "What was read and fetched through a mount, or the image under a rootfs",
    request: { params: schemas.idParameter },
    responses: answers("Counters", schemas.anyObject),
  }),
  start: createRoute({
    method: "get",
    operationId: "start",
    path: "/v1/mounts/{id}/start",
    summary: "Marks and waits of the last start on the image of a mount",
    request: { params: schemas.idParameter },
    responses: answers("As skim stats --why takes them", schemas.anyObject),
  }),
  logs: createRoute({
    operationId: "logs",
    method: "get",
    path: "/v1/mounts/{id}/logs",
    summary: "The last lines of a mount's log, one JSON document a line",
    request: { params: schemas.idParameter, query: schemas.logQuery },
    responses: {
      200: { description: "Lines", content: { "application/x-ndjson": { schema: z.string() } } },
      ...failures,
    },
  }),
  warm: createRoute({
    operationId: "warm",
    method: "post",
    path: "/v1/warm",
    summary:
      "Fetch all of an image into the cache; a line of JSON for each step, the last one with the result",
    request: takes(schemas.warmRequest),
    responses: {
      200: { description: "Progress", content: { "application/x-ndjson": { schema: z.string() } } },
      ...failures,
    },
  }),
  profiles: createRoute({
    operationId: "profiles",
    method: "get",
    path: "/v1/profiles/{id}",
    summary: "The start profiles of the image under a mount",
    request: { params: schemas.idParameter },
    responses: answers("Profiles, as skim profile export writes them", schemas.anyObject),
  }),
  metrics: createRoute({
    method: "get",
    operationId: "metrics",
    path: "/metrics",
    summary: "Metrics of all mounts of the host, for Prometheus",
    responses: {
      200: { description: "Text format 0.0.4", content: { "text/plain": { schema: z.string() } } },
      ...failures,
    },
  }),
  leftovers: createRoute({
    operationId: "leftovers",
    method: "post",
    path: "/v1/gc",
    summary: "What killed processes have left, shown or removed",
    request: { query: schemas.gcQuery },
    responses: answers("A list", schemas.leftovers),
  }),
  drain: createRoute({
    operationId: "drain",
    method: "post",
    path: "/v1/drain",
    summary: "Take no more mounts; those that are there stay",
    responses: answers("It takes none", schemas.health),
  }),
  shutdown: createRoute({
    operationId: "shutdown",
    method: "post",
    path: "/v1/shutdown",
    summary: "Unmount everything and end; refused while rootfs are mounted, unless forced",
    request: takes(schemas.shutdownRequest),
    responses: answers("It ends", schemas.health),
  }),
} as const;

/** The API of `daemon`, to be served by whatever speaks HTTP. */
export function createApi(daemon: Daemon): OpenAPIHono {
  const api = new OpenAPIHono({
    defaultHook: (result) => {
      if (result.success) return;
      const { message, path } = result.error.issues[0]!;
      throw new SkimError("USAGE", `${path.map(String).join(".") || "request"}: ${message}`);
    },
  });
  api.use(async (context, next) => {
    // The server reads as many bytes as are announced, and no more.
    const announced = context.req.header("content-length");
    if (announced === undefined && context.req.header("transfer-encoding") !== undefined)
      return context.json({ code: "USAGE", message: "a request with a body says how long it is" }, 411);
    if (Number(announced ?? 0) > requestBytesMax)
      return context.json(
        { code: "USAGE", message: `a request has at most ${requestBytesMax} bytes, not ${announced}` },
        413,
      );
    return await next();
  });
  api.onError((thrown, context) => {
    const error = withLocalCode(thrown) as Error;
    // What hono itself cannot read: a body that is no JSON.
    if (error instanceof HTTPException && error.status < 500)
      return context.json({ code: "USAGE", message: redact(error.message) }, error.status);
    const code = isSkimError(error) ? error.code : "INTERNAL";
    const status = statusOf[code] ?? 500;
    if (code === "INTERNAL")
      daemon.logger.error({ error: describeError(error), stack: error.stack }, "request failed");
    if (status === 503) context.header("Retry-After", retryAfter);
    return context.json({ code, message: redact(describeError(error)) }, status);
  });
  api.notFound((context) =>
    context.json(
      { code: "NOT_FOUND", message: `no ${context.req.method} ${context.req.path}; see /v1/openapi.json` },
      404,
    ),
  );

  api.openapi(routes.health, (context) => context.json(daemon.health(), 200));
  api.openapi(routes.ready, (context) => {
    const readiness = daemon.readiness();
    return context.json(readiness, readiness.ready ? 200 : 503);
  });
  api.openapi(routes.list, async (context) =>
    context.json(asJson(await daemon.list(context.req.valid("query").kind)), 200),
  );
  api.openapi(routes.createMount, async (context) =>
    context.json(await daemon.rootfs.createMount(asJson(context.req.valid("json"))), 200),
  );
  api.openapi(routes.createRootfs, async (context) =>
    context.json(await daemon.rootfs.createRootfs(asJson(context.req.valid("json"))), 200),
  );
  api.openapi(routes.remove, async (context) => {
    const { force, keepUpper } = context.req.valid("query");
    const options = { force: force === "true", keepUpper: keepUpper === "true" };
    return context.json(await daemon.rootfs.remove(context.req.valid("param").id, options), 200);
  });
  api.openapi(routes.stats, async (context) =>
    context.json(asJson({ ...(await daemon.stats(context.req.valid("param").id)) }), 200),
  );
  api.openapi(routes.start, async (context) =>
    context.json(asJson({ ...(await daemon.start(context.req.valid("param").id)) }), 200),
  );
  api.openapi(routes.logs, async (context) => {
    const { lines } = context.req.valid("query");
    const text = await daemon.logs.last(context.req.valid("param").id, lines);
    return context.body(text, 200, { "content-type": "application/x-ndjson" }) as never;
  });
  api.openapi(routes.warm, (context) => {
    const request = asJson(context.req.valid("json"));
    return stream(context, async (output) => {
      const ended = new AbortController();
      output.onAbort(() =>
        ended.abort(new SkimError("CANCELLED", "whoever wanted this image warm has gone")),
      );
      const tell = (line: object) => output.write(`${JSON.stringify(line)}\n`);
      try {
        await tell({ done: true, ...(await daemon.warm(request, ended.signal, tell)) });
      } catch (thrown) {
        const error = withLocalCode(thrown);
        await tell({
          code: isSkimError(error) ? error.code : "INTERNAL",
          message: redact(describeError(error)),
        });
      }
    }) as never;
  });
  api.openapi(routes.profiles, (context) =>
    context.json(asJson({ ...daemon.profiles(context.req.valid("param").id) }), 200),
  );
  api.openapi(
    routes.metrics,
    async (context) =>
      context.body(await daemon.metrics(), 200, { "content-type": metricsContentType }) as never,
  );
  api.openapi(routes.leftovers, async (context) => {
    const { remove, all } = context.req.valid("query");
    return context.json(await daemon.cleanUp({ remove: remove === "true", all: all === "true" }), 200);
  });
  api.openapi(routes.drain, (context) => {
    daemon.rootfs.drain();
    return context.json(daemon.health(), 200);
  });
  api.openapi(routes.shutdown, async (context) => {
    await daemon.shutdown(context.req.valid("json").force);
    return context.json(daemon.health(), 200);
  });
  api.doc31("/v1/openapi.json", openApiHeader);
  refuseOtherMethods(api);
  return api;
}

/** Behind all routes: what comes here has a path of theirs and another method. */
function refuseOtherMethods(api: OpenAPIHono): void {
  const methods = new Map<string, string[]>();
  for (const route of Object.values(routes)) {
    const path = route.getRoutingPath();
    methods.set(path, [...(methods.get(path) ?? []), route.method.toUpperCase()]);
  }
  for (const [path, allowed] of methods)
    api.all(path, (context) => {
      context.header("Allow", allowed.join(", "));
      const message = `${context.req.path} takes ${allowed.join(" and ")}, not ${context.req.method}`;
      return context.json({ code: "USAGE", message }, 405);
    });
}

const openApiHeader = {
  openapi: "3.1.0",
  info: {
    title: "skim daemon",
    version: skimVersion,
    description:
      "Root filesystems of containers from OCI images that are not pulled. Served on <runDir>/daemon.sock.",
  },
};

/** What is optional in a JSON document is missing, or there, but never undefined. */
type Json<T> = T extends object ? { -readonly [Key in keyof T]: Json<Exclude<T[Key], undefined>> } : T;

function asJson<T>(value: T): Json<T> {
  return value as Json<T>;
}
