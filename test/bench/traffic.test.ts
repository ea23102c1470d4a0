import { describe, expect, it } from "vitest";
import { RequestCounter, Traffic } from "../../bench/network/traffic.js";

describe("request heads", () => {
  const head = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;

  it("are counted however they are cut into pieces", () => {
    const bytes = Buffer.from(head("/a") + head("/b") + head("/c"));
    for (let step = 1; step <= bytes.length; step++) {
      const counter = new RequestCounter();
      let heads = 0;
      for (let at = 0; at < bytes.length; at += step) heads += counter.take(bytes.subarray(at, at + step));
      expect(heads, `pieces of ${step}`).toBe(3);
    }
  });

  it("are not counted before they have ended", () => {
    const counter = new RequestCounter();
    expect(counter.take(Buffer.from("GET / HTTP/1.1\r\nHost: a\r\n"))).toBe(0);
    expect(counter.take(Buffer.from("\r\n"))).toBe(1);
  });
});

describe("traffic", () => {
  it("keeps the bytes to the client by time", () => {
    const traffic = new Traffic(1000);
    traffic.addDown(1000, 5);
    traffic.addDown(1003.9, 5);
    traffic.addDown(1009, 7);
    expect(traffic.report()).toMatchObject({
      bytesDown: 17,
      timeline: [
        [0, 10],
        [8, 7],
      ],
    });
  });

  it("takes longer steps as time goes on, and loses no byte", () => {
    const traffic = new Traffic(0);
    for (let now = 0; now < 60_000; now += 3) traffic.addDown(now, 2);
    const { timeline, bytesDown } = traffic.report();
    expect(timeline.length).toBeLessThanOrEqual(1024);
    expect(timeline.reduce((sum, [, bytes]) => sum + bytes, 0)).toBe(bytesDown);
    expect(timeline.map(([at]) => at)).toEqual(timeline.map(([at]) => at).toSorted((a, b) => a - b));
    expect(timeline.at(-1)![0]).toBeGreaterThan(59_000);
  });
});
