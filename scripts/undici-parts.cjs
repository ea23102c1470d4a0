// What skim uses of undici, for the bundles (build-ts.mjs): its index loads all of it, fetch, WebSocket, caches and mocks included, which takes 50 ms more, and
// the first request of a cold start waits for it.
const Dispatcher = require("undici/lib/dispatcher/dispatcher.js");
// As undici's index does: request and the like are methods of every dispatcher.
Object.assign(Dispatcher.prototype, { request: require("undici/lib/api/api-request.js") });

module.exports = {
  Agent: require("undici/lib/dispatcher/agent.js"),
  Client: require("undici/lib/dispatcher/client.js"),
  Pool: require("undici/lib/dispatcher/pool.js"),
  get EnvHttpProxyAgent() {
    // Proxies need `connect`.
    Object.assign(Dispatcher.prototype, require("undici/lib/api/index.js"));
    return require("undici/lib/dispatcher/env-http-proxy-agent.js");
  },
};
