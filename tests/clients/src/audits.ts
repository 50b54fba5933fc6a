// Runs the audits of graphql-http, which check that the service follows the specification "GraphQL over HTTP".
import { serverAudits } from "graphql-http";

import { bearer } from "./client";

const { PALISADE_GRAPHQL_URL: url, PALISADE_TOKEN_A: token } = process.env;
if (!url || !token) throw new Error("start the audits with tests/clients/run");

const audits = serverAudits({
  url,
  // The audits send no token, so add one.
  fetchFn: (input: string, init: RequestInit = {}) =>
    fetch(input, { ...init, headers: { ...(init.headers as Record<string, string>), ...bearer(token) } }),
});

const counts: Record<string, number> = { ok: 0, notice: 0, warn: 0, error: 0 };
for (const audit of audits) {
  const result = await audit.fn();
  counts[result.status]! += 1;
  const reason = result.status === "ok" ? "" : `: ${result.reason.split("\n")[0]}`;
  console.log(`${result.status.padEnd(6)} ${audit.id} ${audit.name}${reason}`);
}
console.log(`${counts.ok}/${audits.length} ok, ${counts.notice} notices, ${counts.warn} warnings, ${counts.error} errors`);
process.exitCode = counts.warn || counts.error ? 1 : 0;
