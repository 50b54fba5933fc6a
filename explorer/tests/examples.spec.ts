/** Every generated example against the service, without a browser. */

import { expect, test } from "@playwright/test";
import { buildSchema } from "graphql";

import { examplesOf, rowsIn, rowsQuery, type Example } from "../src/examples";
import { dev } from "./explorer";

interface Answer {
  data?: Record<string, unknown> | null;
  errors?: { message: string }[];
}

async function token(): Promise<string> {
  const response = await fetch(`${dev()}/dev/token`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ tenant: "acme", user: "olivia@acme.example" }),
  });
  return ((await response.json()) as { token: string }).token;
}

test("every example runs as it is", async () => {
  const sdl = await (await fetch(`${dev()}/graphiql/schema.graphql`)).text();
  const schema = buildSchema(sdl);
  const headers = {
    "content-type": "application/json",
    authorization: `Bearer ${await token()}`,
    // What they would change stays as it is.
    prefer: "tx=rollback",
  };
  const ask = async (query: string, variables = {}) => {
    const response = await fetch(`${dev()}/graphql`, { method: "POST", headers, body: JSON.stringify({ query, variables }) });
    return (await response.json()) as Answer;
  };
  const failed: string[] = [];
  const check = async (example: Example) => {
    const wanted = rowsQuery(schema, example.needs);
    const rows = wanted ? rowsIn((await ask(wanted)).data) : {};
    const variables = example.variables(rows);
    const answer = await ask(example.document, variables);
    const results = Object.values(answer.data ?? {}) as { userErrors?: { code: string }[]; totalCount?: number }[];
    // That a row is in another state is the demo data's business, and the answer says so well.
    const refused = results.flatMap((result) => result?.userErrors ?? []).filter(({ code }) => code !== "INVALID_STATE");
    const empty = results.some((result) => result === null || result.totalCount === 0);
    if (answer.errors || refused.length || empty) {
      failed.push(`${example.title}: ${JSON.stringify({ variables, ...(answer.errors ? answer : { refused, empty }) })}`);
    }
  };

  const groups = examplesOf(schema);
  const all = groups.flatMap(({ examples }) => examples);
  for (const example of all) await check(example);
  expect(failed).toEqual([]);

  // Nothing is left out: each root field of the schema is in some example.
  const fields = [schema.getQueryType(), schema.getMutationType()].flatMap((type) => Object.keys(type?.getFields() ?? {}));
  const shown = (field: string) => all.some(({ document }) => new RegExp(`^  ${field}\\b`, "m").test(document));
  expect(fields.filter((field) => !shown(field))).toEqual(["nodes"]);
});
