import fc from "fast-check";
import { expect, test } from "vitest";
import { parseChallenges } from "../../src/registry/challenge.js";
import { parseContentRange } from "../../src/registry/content-range.js";
import { isTrustedTransport, registryOrigin, saysItSpeaksTls } from "../../src/registry/endpoint.js";
import { parseRangeHeader } from "../../src/registry/range-header.js";
import { serverText } from "../../src/registry/server-text.js";

/** Headers, URLs and bodies as they come over the wire. */

const read = (header: string) =>
  parseChallenges(header).map((each) => [each.scheme, Object.fromEntries(each.parameters)]);

test("a challenge is a scheme and parameters, in whatever case, with commas in quoted strings", () => {
  expect(read('BEARER Realm="https://a/t?x=1,2",SERVICE="s, t" , scope="repository:a/b:pull,push"')).toEqual([
    ["bearer", { realm: "https://a/t?x=1,2", service: "s, t", scope: "repository:a/b:pull,push" }],
  ]);
  expect(read('Basic realm="say \\"hi\\", \\\\ok"')).toEqual([["basic", { realm: 'say "hi", \\ok' }]]);
  expect(read("Bearer realm=https://a/t,service=s")).toEqual([
    ["bearer", { realm: "https://a/t", service: "s" }],
  ]);
  expect(read('Bearer realm = "r" , service = "s"')).toEqual([["bearer", { realm: "r", service: "s" }]]);
});

test("several challenges in one header are told apart", () => {
  expect(read('Basic realm="b", Bearer realm="r",service="s", Negotiate')).toEqual([
    ["basic", { realm: "b" }],
    ["bearer", { realm: "r", service: "s" }],
    ["negotiate", {}],
  ]);
  expect(read('Negotiate YIIGhg==, Bearer realm="r"')).toEqual([
    ["negotiate", {}],
    ["bearer", { realm: "r" }],
  ]);
  expect(read('Basic, Bearer realm="r"')).toEqual([
    ["basic", {}],
    ["bearer", { realm: "r" }],
  ]);
  expect(read(',, Bearer realm="r",,')).toEqual([["bearer", { realm: "r" }]]);
});

test("the first of two equal parameters counts, and one odd challenge hides no other", () => {
  expect(read('Bearer realm="a",realm="b"')).toEqual([["bearer", { realm: "a" }]]);
  expect(read('Digest realm="unterminated, Bearer realm="r"').length).toBeGreaterThan(0);
  expect(read('"", ;;, Bearer realm="r"').at(-1)).toEqual(["bearer", { realm: "r" }]);
  expect(read("")).toEqual([]);
});

test("no header makes the challenge parser throw or hang", () => {
  fc.assert(fc.property(fc.string({ maxLength: 300 }), (text) => parseChallenges(text).length <= 32));
  expect(parseChallenges("a ".repeat(8000)).length).toBeLessThanOrEqual(32);
  expect(parseChallenges(`Bearer realm="${"\\".repeat(16_000)}`).length).toBeLessThanOrEqual(32);
});

test("Content-Range is read with its last byte included, and refused where it makes no sense", () => {
  expect(parseContentRange("bytes 0-0/1")).toEqual({ start: 0, end: 1, total: 1 });
  expect(parseContentRange(" Bytes 5-9/* ")).toEqual({ start: 5, end: 10, total: undefined });
  for (const bad of [
    undefined,
    "",
    "bytes",
    "bytes 5-4/10",
    "bytes 0-10/10",
    "bytes -5/10",
    "items 0-1/2",
    "bytes 0-1",
  ]) {
    expect(parseContentRange(bad)).toBeUndefined();
  }
  expect(parseContentRange("bytes 0-99999999999999999999/*")).toBeUndefined();
});

test("a Range header is resolved against the size as RFC 9110 has it", () => {
  expect(parseRangeHeader("bytes=0-0", 10)).toEqual({ start: 0, end: 1 });
  expect(parseRangeHeader("bytes=4-", 10)).toEqual({ start: 4, end: 10 });
  expect(parseRangeHeader("bytes=4-99", 10)).toEqual({ start: 4, end: 10 });
  expect(parseRangeHeader("bytes=-3", 10)).toEqual({ start: 7, end: 10 });
  expect(parseRangeHeader("bytes=-30", 10)).toEqual({ start: 0, end: 10 });
  expect(parseRangeHeader("bytes=10-", 10)).toBe("unsatisfiable");
  expect(parseRangeHeader("bytes=-0", 10)).toBe("unsatisfiable");
  expect(parseRangeHeader("bytes=0-", 0)).toBe("unsatisfiable");
  for (const ignored of [undefined, "bytes=-", "bytes=5-4", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b"]) {
    expect(parseRangeHeader(ignored, 10)).toBeUndefined();
  }
});

test("a registry is https unless it is on loopback or listed", () => {
  const origin = (registry: string, ...insecure: string[]) => registryOrigin(registry, insecure);
  expect(origin("docker.io")).toBe("https://registry-1.docker.io");
  expect(origin("ghcr.io")).toBe("https://ghcr.io");
  expect(origin("127.0.0.1:5000")).toBe("http://127.0.0.1:5000");
  expect(origin("127.9.8.7:5000")).toBe("http://127.9.8.7:5000");
  expect(origin("localhost:5000")).toBe("http://localhost:5000");
  expect(origin("[::1]:5000")).toBe("http://[::1]:5000");
  expect(origin("127.0.0.1.evil.example:5000")).toBe("https://127.0.0.1.evil.example:5000");
  expect(origin("localhost.evil.example")).toBe("https://localhost.evil.example");
  expect(origin("10.0.0.5:5000", "10.0.0.5:5000")).toBe("http://10.0.0.5:5000");
  expect(origin("10.0.0.5:5000", "10.0.0.5")).toBe("http://10.0.0.5:5000");
  expect(origin("10.0.0.5:5000", "http://10.0.0.5:5000/")).toBe("http://10.0.0.5:5000");
  expect(origin("10.0.0.5:5000", "10.0.0.5:5001", "0.0.5:5000")).toBe("https://10.0.0.5:5000");
  expect(origin("Registry.Example:5000", "registry.example")).toBe("http://registry.example:5000");
});

test("secrets go over https, to loopback, or to what the user has listed", () => {
  const trusted = (url: string, ...insecure: string[]) => isTrustedTransport(new URL(url), insecure);
  expect(trusted("https://auth.example/token")).toBe(true);
  expect(trusted("http://127.0.0.1:80/token")).toBe(true);
  expect(trusted("http://auth.example/token")).toBe(false);
  expect(trusted("http://auth.example/token", "auth.example:80")).toBe(true);
  expect(trusted("ftp://127.0.0.1/token")).toBe(false);
});

test("a TLS server is known by its answer to a plain request", () => {
  expect(saysItSpeaksTls(400, "Client sent an HTTP request to an HTTPS server.\n")).toBe(true);
  expect(saysItSpeaksTls(400, "<center>The plain HTTP request was sent to HTTPS port</center>")).toBe(true);
  expect(saysItSpeaksTls(400, '{"errors":[{"code":"NAME_INVALID"}]}')).toBe(false);
  expect(saysItSpeaksTls(200, "HTTPS server")).toBe(false);
});

test("what a server says becomes one printable line without secrets", () => {
  expect(serverText('{"errors":[{"code":"DENIED","message":"no\\u001b[31m\\nway"},{"code":"X"}]}')).toBe(
    "DENIED: no [31m way; X",
  );
  expect(serverText('{"details":"incorrect username or password"}')).toBe("incorrect username or password");
  expect(serverText('{"error":"invalid_grant","error_description":"expired"}')).toBe(
    "invalid_grant: expired",
  );
  expect(serverText("<html><h1>502</h1></html>")).toBe("");
  expect(serverText("plain words")).toBe("plain words");
  expect(serverText("x".repeat(5000)).length).toBeLessThan(310);
  expect(serverText('{"errors":[null,7,{"code":{}}]}')).toBe("");
  expect(serverText("token abc.def is bad", "Bearer abc.def")).toBe("token [redacted] is bad");
  const signed = new URL("https://s3.example/x?sig=a%2Fb0123456789&v=2020");
  expect(serverText("a/b0123456789 or a%2Fb0123456789, v 2020", undefined, signed)).toBe(
    "[redacted] or [redacted], v 2020",
  );
  expect(serverText("see https://s3.example/x?X-Amz-Signature=abc")).not.toContain("abc");
});
