import { defineConfig } from "vitest/config";

// Forks, not threads: tests mount filesystems and set signal handlers, and a native addon's faults must stay in
// the process of the test file that caused them. Three at once: the smallest machine that skim is developed on has two cores, and many tests wait.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 300_000,
    globalSetup: ["test/support/global-setup.ts"],
  },
});
