import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";

import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/**
 * Writes a gzip copy of every built file. The service embeds the copies. `build.rs` does not compress, because an
 * unoptimized build script would take a minute for it.
 */
function gzip(): Plugin {
  let out = "";
  return {
    name: "gzip",
    apply: "build",
    configResolved(config) {
      out = resolve(config.root, config.build.outDir);
    },
    closeBundle() {
      for (const entry of readdirSync(out, { recursive: true, withFileTypes: true })) {
        const path = join(entry.parentPath, entry.name);
        if (entry.isFile() && !path.endsWith(".gz")) {
          writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
        }
      }
    },
  };
}

export default defineConfig({
  base: "/graphiql/",
  plugins: [react(), gzip()],
  build: {
    target: "es2023",
    // The first versions with `light-dark()`. For older ones, Vite replaces it with CSS that ignores the theme setting.
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    // Do not inline images and fonts, so that `img-src` and `font-src` need not allow `data:` for them.
    assetsInlineLimit: 0,
    // Monaco is one large chunk. It loads after the page is shown.
    chunkSizeWarningLimit: 8_000,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: {
      onLog(level, log, pass) {
        // Libraries contain directives such as "use client", which have no effect in this build.
        if (log.code !== "MODULE_LEVEL_DIRECTIVE") pass(level, log);
      },
    },
  },
  worker: { format: "es" },
});
