/** How GraphiQL reaches the API. */

import type { Fetcher } from "@graphiql/toolkit";
import { buildSchema, introspectionFromSchema, Kind, parse, type ExecutionResult } from "graphql";

import { offersTrace, reason, schemaText } from "./server";
import { post, session } from "./session";
import { readCost, runs, settings } from "./trace";

/** An answer that the server did not give. */
function ours(message: string): ExecutionResult {
  return { errors: [{ message }] } as unknown as ExecutionResult;
}

/** From the text of the schema, so that schema and examples are there before there is a token. */
async function introspect(): Promise<ExecutionResult> {
  const schema = buildSchema(await schemaText());
  return { data: introspectionFromSchema(schema, { inputValueDeprecation: true }) as unknown as Record<string, unknown> };
}

/**
 * The operation that is meant. GraphiQL reads names a moment after the text changed; whoever is faster
 * would be told that an operation of the last text is not there.
 */
function operationOf(query: string, name: string | null | undefined) {
  try {
    const operations = parse(query).definitions.filter((definition) => definition.kind === Kind.OPERATION_DEFINITION);
    return operations.find((operation) => operation.name?.value === name) ?? (operations.length === 1 ? operations[0] : undefined);
  } catch {
    // The server says it better.
    return undefined;
  }
}

/** Whether a mutation reports user errors. */
function isRefused(data: ExecutionResult["data"]) {
  const payloads = Object.values(data ?? {}) as ({ userErrors?: unknown[] } | null)[];
  return payloads.some((payload) => Boolean(payload?.userErrors?.length));
}

/** What is said instead of an answer for somebody who was left. */
function left(mutates: boolean) {
  const what = "Another tenant or user was picked before the answer came.";
  return ours(mutates ? `${what} The mutation may have been done for the one before.` : `${what} Run it again.`);
}

export const fetcher: Fetcher = async ({ query, variables, operationName }, options) => {
  if (operationName === "IntrospectionQuery") return introspect();
  const { era, held, viewer } = session.get();
  const own = new Headers(options?.headers);
  if (!held && !own.has("authorization")) {
    return ours("Nobody is picked: choose a tenant and a user above, or paste a token, and run again.");
  }
  const operation = operationOf(query, operationName);
  const mutates = operation?.operation === "mutation";
  if (mutates && settings.get().dryRun && !own.has("prefer")) own.set("prefer", "tx=rollback");
  if (offersTrace) own.set("palisade-trace", "1");

  runs.set({ last: undefined });
  const started = performance.now();
  try {
    const wanted = operation ? operation.name?.value : operationName;
    const { response, body } = await post({ query, variables, operationName: wanted }, own);
    if (session.get().era !== era) return left(mutates);
    const { extensions, ...answer } = body as ExecutionResult;
    const { palisade, ...others } = extensions ?? {};
    runs.set({
      last: {
        name: operation?.name?.value ?? "an operation without a name",
        kind: operation?.operation ?? "query",
        viewer: viewer ? `${viewer.user} of ${viewer.tenant}` : "the bearer of the token",
        status: response.status,
        elapsed: performance.now() - started,
        failed: Boolean(answer.errors?.length),
        refused: mutates && isRefused(answer.data),
        dryRun: response.headers.get("preference-applied")?.includes("tx=rollback") ?? false,
        replayed: response.headers.get("idempotency-replayed") === "true",
        ...readCost(palisade),
      },
    });
    // The cost has a panel of its own and would bury the answer.
    return Object.keys(others).length ? { ...answer, extensions: others } : answer;
  } catch (error) {
    if (session.get().era !== era) return left(mutates);
    runs.set({ last: undefined });
    return ours(reason(error));
  }
};
