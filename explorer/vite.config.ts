import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";

import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/**
 * Writes every file of the build compressed beside itself: what the service embeds. Here and not in
 * `build.rs`, because Node has the compressor and an unoptimised build script takes a minute for it.
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
    // The first with `light-dark()`, which is otherwise rewritten into what does not follow a switch.
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    // A file is a file: `img-src` and `font-src` need no `data:` for what is ours.
    assetsInlineLimit: 0,
    // Monaco is one large library, which is loaded after the page is there.
    chunkSizeWarningLimit: 8_000,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: {
      onLog(level, log, pass) {
        // Notes of React's compiler to itself, in libraries that it has compiled already.
        if (log.code !== "MODULE_LEVEL_DIRECTIVE") pass(level, log);
      },
    },
  },
  worker: { format: "es" },
});
