import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

import { defineConfig } from "@playwright/test";

/** The browser of the machine: the tests fetch none. */
function chromium(): string {
  const named = process.env.PLAYWRIGHT_CHROMIUM;
  if (named) return named;
  const places = (process.env.PATH ?? "").split(delimiter);
  const names = ["chromium", "chromium-browser", "google-chrome"];
  const found = names.flatMap((name) => places.map((place) => join(place, name))).find(existsSync);
  if (!found) throw new Error("no Chromium: install one, or name it in PLAYWRIGHT_CHROMIUM");
  return found;
}

export default defineConfig({
  testDir: "test",
  // One service, one tenant's rows: the tests take turns.
  workers: 1,
  forbidOnly: true,
  timeout: 30_000,
  reporter: "list",
  use: {
    launchOptions: {
      executablePath: chromium(),
      args: [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        // No name resolves: nothing but loopback can be reached.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
      ],
    },
  },
});
