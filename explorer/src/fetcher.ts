/** Sends GraphiQL's operations to the API. */

import type { Fetcher } from "@graphiql/toolkit";
import { buildSchema, introspectionFromSchema, Kind, parse, type ExecutionResult } from "graphql";

import { errorMessage, fetchSdl, offersTrace } from "./server";
import { sendOperation, session } from "./session";
import { readTrace, runs, settings } from "./trace";

/** Returns a result that contains an error of the explorer itself, not of the server. */
function localError(message: string): ExecutionResult {
  return { errors: [{ message }] } as unknown as ExecutionResult;
}

/** Builds the introspection result from the SDL, so that the schema and the examples are available without a token. */
async function introspect(): Promise<ExecutionResult> {
  const schema = buildSchema(await fetchSdl());
  return { data: introspectionFromSchema(schema, { inputValueDeprecation: true }) as unknown as Record<string, unknown> };
}

/**
 * Finds the operation to run. GraphiQL updates the operation name shortly after the document changes, so the name may
 * belong to the previous document. A document with one operation therefore needs no matching name.
 */
function findOperation(query: string, name: string | null | undefined) {
  try {
    const operations = parse(query).definitions.filter((definition) => definition.kind === Kind.OPERATION_DEFINITION);
    return operations.find((operation) => operation.name?.value === name) ?? (operations.length === 1 ? operations[0] : undefined);
  } catch {
    // Ignore syntax errors here. The server reports them.
    return undefined;
  }
}

function hasUserErrors(data: ExecutionResult["data"]) {
  const payloads = Object.values(data ?? {}) as ({ userErrors?: unknown[] } | null)[];
  return payloads.some((payload) => Boolean(payload?.userErrors?.length));
}

/** Returns the result to show instead of a response to the previous user. */
function userChangedError(isMutation: boolean) {
  const message = "The tenant or user was changed before the response arrived.";
  return localError(`${message} ${isMutation ? "The mutation may have run as the previous user." : "Run the operation again."}`);
}

export const fetcher: Fetcher = async ({ query, variables, operationName }, options) => {
  if (operationName === "IntrospectionQuery") return introspect();
  const { generation, credentials, viewer } = session.get();
  const headers = new Headers(options?.headers);
  if (!credentials && !headers.has("authorization")) {
    return localError("Not signed in: choose a tenant and a user above, or paste a token, and run the operation again.");
  }
  const operation = findOperation(query, operationName);
  const isMutation = operation?.operation === "mutation";
  if (isMutation && settings.get().dryRun && !headers.has("prefer")) headers.set("prefer", "tx=rollback");
  if (offersTrace) headers.set("palisade-trace", "1");

  runs.set({ last: undefined });
  const startedAt = performance.now();
  try {
    const currentName = operation ? operation.name?.value : operationName;
    const { response, body } = await sendOperation({ query, variables, operationName: currentName }, headers);
    if (session.get().generation !== generation) return userChangedError(isMutation);
    const { extensions, ...result } = body as ExecutionResult;
    const { palisade: trace, ...otherExtensions } = extensions ?? {};
    runs.set({
      last: {
        name: operation?.name?.value ?? "without a name",
        operationType: operation?.operation ?? "query",
        viewer: viewer ? `${viewer.user} of ${viewer.tenant}` : "the user of the token",
        status: response.status,
        elapsedMs: performance.now() - startedAt,
        hasErrors: Boolean(result.errors?.length),
        hasUserErrors: isMutation && hasUserErrors(result.data),
        dryRun: response.headers.get("preference-applied")?.includes("tx=rollback") ?? false,
        replayed: response.headers.get("idempotency-replayed") === "true",
        ...readTrace(trace),
      },
    });
    // The SQL panel shows the trace. In the response, the long trace would hide the data.
    return Object.keys(otherExtensions).length ? { ...result, extensions: otherExtensions } : result;
  } catch (error) {
    if (session.get().generation !== generation) return userChangedError(isMutation);
    runs.set({ last: undefined });
    return localError(errorMessage(error));
  }
};
