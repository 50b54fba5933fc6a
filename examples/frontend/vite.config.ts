import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The file `dev.env` of `palisade dev` sets this variable. The fallback is the service's default address.
const service = new URL(process.env.PALISADE_GRAPHQL_URL ?? "http://127.0.0.1:8080/graphql").origin;

export default defineConfig({
  plugins: [react()],
  server: {
    // For the browser, the page and the API have the same origin, so CORS needs no setup. The proxy keeps the header
    // `Host`, with which the service checks that the origin is the same.
    proxy: {
      "/graphql": { target: service },
      "/dev": { target: service },
    },
  },
});
