/**
 * Playwright settings that the tests of this app and of the explorer share. This file is here and not in the
 * repository's root, so that a copy of this app is complete.
 */

import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** Returns the path of an installed Chromium. The tests never download a browser. */
function findChromium(): string {
  const configured = process.env.PLAYWRIGHT_CHROMIUM;
  if (configured) return configured;
  const directories = ["/usr/bin", ...(process.env.PATH ?? "").split(delimiter)];
  const names = ["chromium", "chromium-browser", "google-chrome"];
  const found = directories.flatMap((directory) => names.map((name) => join(directory, name))).find(isExecutable);
  if (!found) throw new Error("Chromium not found: install it, or set PLAYWRIGHT_CHROMIUM to its path");
  return found;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export const baseConfig = {
  reporter: "list",
  // All tests share one service and its rows, so they run one after another.
  workers: 1,
  forbidOnly: true,
} as const;

export const launchOptions = {
  executablePath: findChromium(),
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // The browser cannot resolve any host name, so it reaches only 127.0.0.1.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
  ],
};
