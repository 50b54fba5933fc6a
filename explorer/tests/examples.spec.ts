/** Runs every generated example against the service, without a browser. */

import { expect, test } from "@playwright/test";
import { buildSchema } from "graphql";

import { createExamples, readSampleRows, sampleRowsQuery, type Example } from "../src/examples";
import { devUrl } from "./explorer";

interface GraphqlResponse {
  data?: Record<string, unknown> | null;
  errors?: { message: string }[];
}

async function createOwnerToken(): Promise<string> {
  const response = await fetch(`${devUrl()}/dev/token`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ tenant: "acme", user: "olivia@acme.example" }),
  });
  return ((await response.json()) as { token: string }).token;
}

test("every example runs without changes, and every root field has an example", async () => {
  const sdl = await (await fetch(`${devUrl()}/graphiql/schema.graphql`)).text();
  const schema = buildSchema(sdl);
  const headers = {
    "content-type": "application/json",
    authorization: `Bearer ${await createOwnerToken()}`,
    // Roll back, so that the examples do not affect each other.
    prefer: "tx=rollback",
  };
  const execute = async (query: string, variables = {}) => {
    const response = await fetch(`${devUrl()}/graphql`, { method: "POST", headers, body: JSON.stringify({ query, variables }) });
    return (await response.json()) as GraphqlResponse;
  };
  const failures: string[] = [];
  const check = async (example: Example) => {
    const rowsQuery = sampleRowsQuery(schema, example.requiredRows);
    const rows = rowsQuery ? readSampleRows((await execute(rowsQuery)).data) : {};
    const variables = example.variables(rows);
    const response = await execute(example.document, variables);
    const results = Object.values(response.data ?? {}) as { userErrors?: { code: string }[]; totalCount?: number }[];
    // The demo data may contain no row in the state that the mutation requires.
    const userErrors = results.flatMap((result) => result?.userErrors ?? []).filter(({ code }) => code !== "INVALID_STATE");
    const empty = results.some((result) => result === null || result.totalCount === 0);
    if (response.errors || userErrors.length || empty) {
      failures.push(`${example.title}: ${JSON.stringify({ variables, ...(response.errors ? response : { userErrors, empty }) })}`);
    }
  };

  const examples = createExamples(schema).flatMap((group) => group.examples);
  for (const example of examples) await check(example);
  expect(failures).toEqual([]);

  const fields = [schema.getQueryType(), schema.getMutationType()].flatMap((type) => Object.keys(type?.getFields() ?? {}));
  const hasExample = (field: string) => examples.some(({ document }) => new RegExp(`^  ${field}\\b`, "m").test(document));
  expect(fields.filter((field) => !hasExample(field))).toEqual(["nodes"]);
});
