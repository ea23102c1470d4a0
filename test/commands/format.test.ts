import { expect, test } from "vitest";
import { formatTable } from "../../src/commands/format.js";

test("a row of a table is one line, and no cell steers a terminal", () => {
  const table = formatTable([
    ["COMMAND", "RUNS"],
    ["sh -c a\nb\u001b[2J\u009b", "1"],
  ]);
  expect(table.split("\n")).toEqual(["COMMAND                  RUNS", "sh -c a\\x0ab\\x1b[2J\\x9b  1"]);
});
