// What the types must refuse. tsc fails when one of these lines begins to compile.
import { ScenarioNodeQueryDocument, ScenarioProjectsQueryDocument, ScenarioUpdateMutationDocument } from "../generated/gql/graphql";
import type { Client } from "./client";

export async function refused(client: Client): Promise<unknown[]> {
  // @ts-expect-error: a variable is missing
  await client.ask(ScenarioNodeQueryDocument, {});
  // @ts-expect-error: the schema has no such operator
  await client.ask(ScenarioProjectsQueryDocument, { first: 1, filter: { name: { endsWith: "x" } } });
  // @ts-expect-error: the schema has no such status
  await client.ask(ScenarioUpdateMutationDocument, { input: { id: "prj_", status: "DONE" } });
  const { data } = await client.ask(ScenarioProjectsQueryDocument, { first: 1 });
  // @ts-expect-error: the operation does not ask for it
  const description = data?.projects.edges[0]?.node.description;
  // @ts-expect-error: an amount is text
  const amount: number | undefined = data?.projects.edges[0]?.node.invoices.nodes[0]?.total.amount;
  return [description, amount];
}
