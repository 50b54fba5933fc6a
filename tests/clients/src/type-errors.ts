// Mistakes that the generated types must reject. tsc fails if one of these lines compiles.
import { ScenarioNodeQueryDocument, ScenarioProjectsQueryDocument, ScenarioUpdateMutationDocument } from "../generated/gql/graphql";
import type { Client } from "./client";

export async function typeErrors(client: Client): Promise<unknown[]> {
  // @ts-expect-error: a variable is missing
  await client.execute(ScenarioNodeQueryDocument, {});
  // @ts-expect-error: the schema has no such operator
  await client.execute(ScenarioProjectsQueryDocument, { first: 1, filter: { name: { endsWith: "x" } } });
  // @ts-expect-error: the schema has no such status
  await client.execute(ScenarioUpdateMutationDocument, { input: { id: "prj_", status: "DONE" } });
  const { data } = await client.execute(ScenarioProjectsQueryDocument, { first: 1 });
  // @ts-expect-error: the operation does not select this field
  const description = data?.projects.edges[0]?.node.description;
  // @ts-expect-error: an amount is a string
  const amount: number | undefined = data?.projects.edges[0]?.node.invoices.nodes[0]?.total.amount;
  return [description, amount];
}
