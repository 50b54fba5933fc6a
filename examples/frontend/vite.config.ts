import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// `dev.env` of `palisade dev` sets the address; without it the service is at its usual place.
const service = new URL(process.env.PALISADE_GRAPHQL_URL ?? "http://127.0.0.1:8080/graphql").origin;

export default defineConfig({
  plugins: [react()],
  server: {
    // The page and the API have one origin for the browser, so there is no CORS to set up. The host stays
    // the page's: by it the service knows that its origin is the same.
    proxy: {
      "/graphql": { target: service },
      "/dev": { target: service },
    },
  },
});
