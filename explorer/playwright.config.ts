import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

import { defineConfig } from "@playwright/test";

/** A Chromium of the system's: nothing is downloaded for the tests. */
function chromium(): string {
  const named = process.env.PLAYWRIGHT_CHROMIUM;
  if (named) return named;
  const dirs = ["/usr/bin", ...(process.env.PATH ?? "").split(delimiter)];
  const places = dirs.flatMap((dir) => ["chromium", "chromium-browser", "google-chrome"].map((name) => join(dir, name)));
  const found = places.find((place) => {
    try {
      accessSync(place, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (!found) throw new Error("no Chromium: install one, or name it in PLAYWRIGHT_CHROMIUM");
  return found;
}

export default defineConfig({
  testDir: "tests",
  globalSetup: "./tests/server.ts",
  outputDir: "test-results",
  reporter: [["list"]],
  // They share one server and its rows, and a machine that builds has no cores to spare.
  workers: 1,
  fullyParallel: false,
  forbidOnly: true,
  timeout: 60_000,
  expect: { timeout: 15_000 },
  use: {
    viewport: { width: 1280, height: 800 },
    colorScheme: "light",
    launchOptions: {
      executablePath: chromium(),
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        // No name leads anywhere: whatever is asked of another machine fails.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
      ],
    },
  },
});
