/** Starts the built binary with `dev` and with `serve` for the tests, and stops both. */

import { spawn, type ChildProcess } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const BINARY = process.env.PALISADE_BINARY ?? join(import.meta.dirname, "../../target/debug/palisade");
const FREE_PORT = ["--listen", "127.0.0.1:0"];

/** Starts a command and waits until its output contains its URL, the first group of `urlPattern`. */
async function start(args: string[], env: NodeJS.ProcessEnv, urlPattern: RegExp): Promise<{ child: ChildProcess; url: string }> {
  const inheritedEnv = Object.entries(process.env).filter(([name]) => !/^(PALISADE_|PG|DATABASE_URL)/.test(name));
  const child = spawn(BINARY, args, { env: { ...Object.fromEntries(inheritedEnv), ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const url = await new Promise<string>((resolve, reject) => {
    const read = (chunk: Buffer) => {
      output += chunk.toString();
      const url = urlPattern.exec(output)?.[1];
      if (url) resolve(url);
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`\`palisade ${args[0]}\` exited with ${code}:\n${output}`)));
  });
  return { child, url };
}

async function stop(child: ChildProcess) {
  if (child.exitCode !== null) return;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await exited;
}

/** Reads the variables in `dev.env`. */
function readEnvFile(path: string): Record<string, string> {
  const lines = readFileSync(path, "utf8").matchAll(/^export (\w+)='(.*)'$/gm);
  return Object.fromEntries([...lines].map(([, name, value]) => [name, value]));
}

export default async function setup() {
  const dir = mkdtempSync(join(tmpdir(), "palisade-explorer-"));
  // If the tests run as root, PostgreSQL runs under another account, which must be able to enter the directory.
  chmodSync(dir, 0o755);
  const running: ChildProcess[] = [];
  const stopAll = async () => {
    for (const child of running.reverse()) await stop(child);
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    const dev = await start(["dev", "--data-dir", join(dir, "data"), ...FREE_PORT], {}, /^API\s+(http:\S+)\/graphql$/m);
    running.push(dev.child);
    const devEnv = readEnvFile(join(dir, "data", "dev.env"));
    const serve = await start(
      ["serve", "--explorer", "--introspection", ...FREE_PORT],
      {
        PALISADE_APP_DATABASE_URL: devEnv.PALISADE_APP_DATABASE_URL,
        PALISADE_AUTH_DATABASE_URL: devEnv.PALISADE_AUTH_DATABASE_URL,
        PALISADE_JWT_SECRET: devEnv.PALISADE_JWT_SECRET,
        PALISADE_CONTEXT_KEY: devEnv.PALISADE_CONTEXT_KEY,
      },
      /listening on (http:\S+)\/graphql/,
    );
    running.push(serve.child);
    process.env.EXPLORER_DEV_URL = dev.url;
    process.env.EXPLORER_SERVE_URL = serve.url;
    process.env.EXPLORER_TOKEN_A = devEnv.PALISADE_TOKEN_A;
    process.env.EXPLORER_TOKEN_B = devEnv.PALISADE_TOKEN_B;
    return stopAll;
  } catch (error) {
    await stopAll();
    throw error;
  }
}
