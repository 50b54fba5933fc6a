/** What the last operation cost, for the panel and the line below the answer. */

import { recall, store, keep } from "./store";

export interface Statement {
  sql: string;
  ms?: number;
  rows?: number;
}

/** One operation that was run. */
export interface Run {
  name: string;
  kind: string;
  viewer: string;
  status: number;
  /** From the request to the end of the answer, in milliseconds, as the browser saw it. */
  elapsed: number;
  failed: boolean;
  /** A mutation that reports user errors, and has written nothing. */
  refused: boolean;
  dryRun: boolean;
  replayed: boolean;
  roundTrips?: number;
  statements?: Statement[];
}

export const runs = store<{ last: Run | undefined }>({ last: undefined });

export const settings = store<{ dryRun: boolean }>({ dryRun: recall<boolean>(localStorage, "dry-run") ?? false });

export function setDryRun(dryRun: boolean) {
  keep(localStorage, "dry-run", dryRun);
  settings.set({ dryRun });
}

/** Reads `extensions.palisade`; statements are texts, or objects with a text. */
export function readCost(cost: unknown): Pick<Run, "roundTrips" | "statements"> {
  if (typeof cost !== "object" || cost === null) return {};
  const { roundTrips, statements } = cost as { roundTrips?: number; statements?: (string | Statement)[] };
  return {
    roundTrips,
    statements: statements?.map((statement) => (typeof statement === "string" ? { sql: statement } : statement)),
  };
}

/** Clauses on lines of their own. For reading only; what is copied is what was sent. */
export function layOut(sql: string): string {
  if (sql.includes("\n")) return sql.trim();
  return sql.replaceAll(
    / (FROM|WHERE|ORDER BY|GROUP BY|LIMIT|RETURNING|VALUES|SET|(?:CROSS |INNER |LEFT )?JOIN) /gi,
    "\n$1 ",
  );
}

export function milliseconds(ms: number): string {
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

export function count(n: number, one: string): string {
  return `${n} ${one}${n === 1 ? "" : "s"}`;
}
