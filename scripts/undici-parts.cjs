// What skim uses of undici, for the bundles (build-ts.mjs): its index loads all of it, fetch, WebSocket, caches and mocks included, which takes 50 ms more, and
// the first request of a cold start waits for it.
const { setFlagsFromString } = require("node:v8");

module.exports = {
  Agent: require("undici/lib/dispatcher/agent.js"),
  buildConnector: require("undici/lib/core/connect.js"),
  Client: require("undici/lib/dispatcher/client.js"),
  Pool: require("undici/lib/dispatcher/pool.js"),
  get EnvHttpProxyAgent() {
    // Proxies need `connect`, which undici's index makes a method of every dispatcher.
    const Dispatcher = require("undici/lib/dispatcher/dispatcher.js");
    Object.assign(Dispatcher.prototype, require("undici/lib/api/index.js"));
    return require("undici/lib/dispatcher/env-http-proxy-agent.js");
  },
};

// undici's parser of HTTP is WebAssembly. One of its functions is so large that optimizing it takes 0.15 s of a processor, and V8 sets about that at the first answer, in
// each of the two processes of a start; the microseconds it saves are earned back after some 50,000 answers. The budget is what a function may run before that. It counts for
// modules that are compiled from now on, of which the parser is the only one. Not earlier: with another flag V8 refuses the code caches of node's own modules, and by now
// they are loaded. Nor where a code cache is written (build-ts.mjs), which would have the flag in it.
if (!process.env.SKIM_WRITE_CODE_CACHE) setFlagsFromString("--wasm-tiering-budget=2147483647");
