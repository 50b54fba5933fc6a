import { defineConfig } from "@playwright/test";

import { baseConfig, launchOptions } from "./playwright.base";

export default defineConfig({
  ...baseConfig,
  testDir: "test",
  timeout: 30_000,
  use: { launchOptions },
});
