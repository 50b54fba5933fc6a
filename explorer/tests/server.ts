/** Starts the built binary for the tests, as people start it, and ends it. */

import { spawn, type ChildProcess } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const BINARY = process.env.PALISADE_BINARY ?? join(import.meta.dirname, "../../target/debug/palisade");
const FREE_PORT = ["--listen", "127.0.0.1:0"];

/** Runs a command until it says where it is. */
async function start(args: string[], env: NodeJS.ProcessEnv, ready: RegExp): Promise<{ child: ChildProcess; url: string }> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(PALISADE_|PG|DATABASE_URL)/.test(name));
  const child = spawn(BINARY, args, { env: { ...Object.fromEntries(inherited), ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  const url = await new Promise<string>((resolve, reject) => {
    const read = (chunk: Buffer) => {
      said += chunk.toString();
      const found = ready.exec(said);
      if (found?.[1]) resolve(found[1]);
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`\`palisade ${args[0]}\` ended with ${code}:\n${said}`)));
  });
  return { child, url };
}

async function stop(child: ChildProcess) {
  if (child.exitCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await ended;
}

/** The variables of `dev.env`. */
function settings(path: string): Record<string, string> {
  const lines = readFileSync(path, "utf8").matchAll(/^export (\w+)='(.*)'$/gm);
  return Object.fromEntries([...lines].map(([, name, value]) => [name, value]));
}

export default async function setup() {
  const dir = mkdtempSync(join(tmpdir(), "palisade-explorer-"));
  // PostgreSQL runs as another account if this is root, and passes through here.
  chmodSync(dir, 0o755);
  const running: ChildProcess[] = [];
  const end = async () => {
    for (const child of running.reverse()) await stop(child);
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    const dev = await start(["dev", "--data-dir", join(dir, "data"), ...FREE_PORT], {}, /^API\s+(http:\S+)\/graphql$/m);
    running.push(dev.child);
    const known = settings(join(dir, "data", "dev.env"));
    const serve = await start(
      ["serve", "--explorer", "--introspection", ...FREE_PORT],
      {
        PALISADE_APP_DATABASE_URL: known.PALISADE_APP_DATABASE_URL,
        PALISADE_AUTH_DATABASE_URL: known.PALISADE_AUTH_DATABASE_URL,
        PALISADE_JWT_SECRET: known.PALISADE_JWT_SECRET,
      },
      /listening on (http:\S+)\/graphql/,
    );
    running.push(serve.child);
    process.env.EXPLORER_DEV = dev.url;
    process.env.EXPLORER_SERVE = serve.url;
    process.env.EXPLORER_TOKEN_A = known.PALISADE_TOKEN_A;
    process.env.EXPLORER_TOKEN_B = known.PALISADE_TOKEN_B;
    return end;
  } catch (error) {
    await end();
    throw error;
  }
}
