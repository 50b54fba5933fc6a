/** The last operation and its trace (statements and round trips), for the SQL panel and the line below the response. */

import { createStore, loadItem, saveItem } from "./store";

export interface Statement {
  sql: string;
  ms?: number;
  rows?: number;
}

/** One operation that ran. */
export interface Run {
  name: string;
  operationType: string;
  viewer: string;
  status: number;
  /** The time from sending the request to the end of the response, measured in the browser. */
  elapsedMs: number;
  hasErrors: boolean;
  /** Whether the response contains user errors. */
  hasUserErrors: boolean;
  dryRun: boolean;
  replayed: boolean;
  roundTrips?: number;
  statements?: Statement[];
}

export const runs = createStore<{ last: Run | undefined }>({ last: undefined });

export const settings = createStore<{ dryRun: boolean }>({ dryRun: loadItem<boolean>(localStorage, "dry-run") ?? false });

export function setDryRun(dryRun: boolean) {
  saveItem(localStorage, "dry-run", dryRun);
  settings.set({ dryRun });
}

/** Reads `extensions.palisade`. Each statement is a string or an object with a string `sql`. */
export function readTrace(trace: unknown): Pick<Run, "roundTrips" | "statements"> {
  if (typeof trace !== "object" || trace === null) return {};
  const { roundTrips, statements } = trace as { roundTrips?: number; statements?: (string | Statement)[] };
  return {
    roundTrips,
    statements: statements?.map((statement) => (typeof statement === "string" ? { sql: statement } : statement)),
  };
}

/** Puts each clause on its own line. For display only: the copy button copies the SQL as it was sent. */
export function formatSql(sql: string): string {
  if (sql.includes("\n")) return sql.trim();
  return sql.replaceAll(
    / (FROM|WHERE|ORDER BY|GROUP BY|LIMIT|RETURNING|VALUES|SET|(?:CROSS |INNER |LEFT )?JOIN) /gi,
    "\n$1 ",
  );
}

export function formatMilliseconds(ms: number): string {
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

/** Formats a count with its noun: `1 row`, `2 rows`. */
export function formatCount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
