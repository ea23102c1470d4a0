/** The process of a network proxy: apart from the benchmark, whose work would delay what passes. Its argument is the upstream's `host:port`. */
import { answerRequests } from "../support/asked-process.js";
import type { NetworkAnswers, NetworkRequests } from "./network.js";
import { networkProfile } from "./profiles.js";
import { NetworkProxy } from "./proxy.js";

const [host = "", port = ""] = (process.argv[2] ?? "").split(":");
const proxy = await NetworkProxy.start({ host, port: Number(port) });

answerRequests<NetworkRequests, NetworkAnswers>({
  async listen() {
    return { port: proxy.port };
  },
  async reset({ profile }) {
    proxy.reset(networkProfile(profile));
    return {};
  },
  async report() {
    const { user, system } = process.cpuUsage();
    return { traffic: proxy.report(), cpuMs: (user + system) / 1000 };
  },
});
