import assert from "node:assert/strict";

import { ApolloClient, CombinedGraphQLErrors, HttpLink, InMemoryCache } from "@apollo/client";
import { relayStylePagination } from "@apollo/client/utilities";
import { Kind } from "graphql";

import { ScenarioProjectsQueryDocument, ScenarioUpdateMutationDocument } from "../generated/gql/graphql";
import { bearer, codesOf, type Connect } from "./client";

const apollo = (url: string, token?: string) =>
  new ApolloClient({
    link: new HttpLink({ uri: url, headers: bearer(token) }),
    cache: new InMemoryCache({
      typePolicies: { Query: { fields: { projects: relayStylePagination(["filter", "orderBy"]) } } },
    }),
  });

export const connect: Connect = (url, token) => {
  const client = apollo(url, token);
  return {
    async execute(document, variables, headers) {
      const [operation] = document.definitions;
      const isMutation = operation?.kind === Kind.OPERATION_DEFINITION && operation.operation === "mutation";
      try {
        const { data } = isMutation
          ? await client.mutate({ mutation: document, variables, context: { headers } } as never)
          : await client.query({ query: document, variables, context: { headers }, fetchPolicy: "no-cache" } as never);
        return { data: data as never, codes: [] };
      } catch (error) {
        if (CombinedGraphQLErrors.is(error)) return { data: null, codes: codesOf(error.errors) };
        throw error;
      }
    },
  };
};

/** Tests features that only Apollo has: its cache joins pages, and updates a row by its ID in every query. */
export async function testOwnFeatures(url: string, token: string): Promise<void> {
  const client = apollo(url, token);
  const firstPage = { query: ScenarioProjectsQueryDocument, variables: { first: 10 } };
  const rows = () => client.readQuery(firstPage)?.projects.edges ?? [];
  const list = client.watchQuery(firstPage);
  const subscription = list.subscribe(() => {});
  let projects = (await list.refetch()).data?.projects;
  while (projects?.pageInfo.hasNextPage) {
    const { data } = await list.fetchMore({ variables: { after: projects.pageInfo.endCursor } });
    projects = data?.projects;
  }
  assert.equal(rows().length, projects?.totalCount);
  const { id, name } = rows()[0]!.node;
  for (const newName of [`${name}, renamed`, name]) {
    await client.mutate({ mutation: ScenarioUpdateMutationDocument, variables: { input: { id, name: newName } } });
    assert.equal(rows()[0]!.node.name, newName);
  }
  subscription.unsubscribe();
  client.stop();
}
