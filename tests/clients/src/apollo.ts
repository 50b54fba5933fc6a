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
    async ask(document, variables, headers) {
      const [operation] = document.definitions;
      const mutation = operation?.kind === Kind.OPERATION_DEFINITION && operation.operation === "mutation";
      try {
        const { data } = mutation
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

/** Apollo's own way: pages that its cache joins, and a write that shows in every query by its id. */
export async function own(url: string, token: string): Promise<void> {
  const client = apollo(url, token);
  const first = { query: ScenarioProjectsQueryDocument, variables: { first: 10 } };
  const rows = () => client.readQuery(first)?.projects.edges ?? [];
  const list = client.watchQuery(first);
  const watched = list.subscribe(() => {});
  let projects = (await list.refetch()).data?.projects;
  while (projects?.pageInfo.hasNextPage) {
    const { data } = await list.fetchMore({ variables: { after: projects.pageInfo.endCursor } });
    projects = data?.projects;
  }
  assert.equal(rows().length, projects?.totalCount);
  const { id, name } = rows()[0]!.node;
  for (const changed of [`${name}, seen twice`, name]) {
    await client.mutate({ mutation: ScenarioUpdateMutationDocument, variables: { input: { id, name: changed } } });
    assert.equal(rows()[0]!.node.name, changed);
  }
  watched.unsubscribe();
  client.stop();
}
