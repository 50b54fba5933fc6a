import { defineConfig } from "@playwright/test";

import { baseConfig, launchOptions } from "../examples/frontend/playwright.base";

export default defineConfig({
  ...baseConfig,
  testDir: "tests",
  globalSetup: "./tests/server.ts",
  outputDir: "test-results",
  timeout: 60_000,
  expect: { timeout: 15_000 },
  use: {
    viewport: { width: 1280, height: 800 },
    colorScheme: "light",
    launchOptions,
  },
});
