import assert from "node:assert/strict";

import {
  commitMutation,
  ConnectionHandler,
  createOperationDescriptor,
  Environment,
  fetchQuery,
  type GraphQLTaggedNode,
  getSingularSelector,
  getRequest,
  Network,
  RecordSource,
  type SingularReaderSelector,
  Store,
} from "relay-runtime";

import createMutation from "../generated/artifacts/ScenarioCreateMutation.graphql";
import deleteMutation from "../generated/artifacts/ScenarioDeleteMutation.graphql";
import nodeQuery from "../generated/artifacts/ScenarioNodeQuery.graphql";
import projectsQuery from "../generated/artifacts/ScenarioProjectsQuery.graphql";
import updateMutation from "../generated/artifacts/ScenarioUpdateMutation.graphql";
import viewerQuery from "../generated/artifacts/ScenarioViewerQuery.graphql";
import backwardsQuery from "../generated/artifacts/StoreBackwardsQuery.graphql";
import storeCreate from "../generated/artifacts/StoreCreateMutation.graphql";
import storeDelete from "../generated/artifacts/StoreDeleteMutation.graphql";
import pageQuery from "../generated/artifacts/StorePageQuery.graphql";
import projectQuery from "../generated/artifacts/StoreProjectQuery.graphql";
import listQuery from "../generated/artifacts/StoreProjectsQuery.graphql";
import rowFragment, { type Store_project$data } from "../generated/artifacts/Store_project.graphql";
import listFragment from "../generated/artifacts/Store_projects.graphql";
import { bearer, codesOf, type Connect } from "./client";

const artifacts: Record<string, GraphQLTaggedNode> = {
  ScenarioCreateMutation: createMutation,
  ScenarioDeleteMutation: deleteMutation,
  ScenarioNodeQuery: nodeQuery,
  ScenarioProjectsQuery: projectsQuery,
  ScenarioUpdateMutation: updateMutation,
  ScenarioViewerQuery: viewerQuery,
};

const relay = (url: string, token?: string) =>
  new Environment({
    store: new Store(new RecordSource()),
    network: Network.create(async (request, variables, config) => {
      const response = await fetch(url, {
        method: "POST",
        headers: {
          accept: "application/graphql-response+json",
          "content-type": "application/json",
          ...bearer(token),
          ...(config.metadata?.headers as Record<string, string> | undefined),
        },
        body: JSON.stringify({ query: request.text, variables }),
      });
      return response.json();
    }),
  });

/** What is read from the store. An error beside data stands at the field that it nulled; the types lag behind. */
type Read = { data: unknown; fieldErrors?: { error: unknown }[] | null };

/** What the compiler made of an operation, by its name. */
function artifactOf(document: { definitions: readonly { name?: { value: string } }[] }): GraphQLTaggedNode {
  return artifacts[document.definitions[0]?.name?.value ?? ""]!;
}

export const connect: Connect = (url, token) => {
  const environment = relay(url, token);
  return {
    async ask(document, variables, headers) {
      const node = artifactOf(document as never);
      try {
        // Below `fetchQuery` and `commitMutation`, neither of which hands on a header.
        const operation = createOperationDescriptor(getRequest(node), variables, { metadata: { headers }, force: true });
        const run =
          operation.request.node.params.operationKind === "mutation"
            ? environment.executeMutation({ operation })
            : environment.execute({ operation });
        await run.toPromise();
        const { data, fieldErrors } = environment.lookup(operation.fragment) as Read;
        return { data: data as never, codes: codesOf(fieldErrors?.map((one) => one.error)) };
      } catch (error) {
        const { source } = error as { source?: { errors?: unknown } };
        if (!source) throw error;
        return { data: null, codes: codesOf(source.errors) };
      }
    },
  };
};

/** Relay's own way: a connection that grows in the store, rows fetched anew by `node`, edges put in and taken out. */
export async function own(url: string, token: string): Promise<void> {
  const environment = relay(url, token);
  const fetched = async (node: GraphQLTaggedNode, variables: Record<string, unknown>) => {
    const operation = createOperationDescriptor(getRequest(node), variables);
    await fetchQuery(environment, node, variables).toPromise();
    // Nothing of it may be collected while the test looks at it.
    environment.retain(operation);
    return environment.lookup(operation.fragment).data as Record<string, unknown>;
  };
  const read = (fragment: unknown, from: unknown) => {
    const selector = getSingularSelector(fragment as never, from) as SingularReaderSelector;
    const { data, isMissingData } = environment.lookup(selector);
    assert.equal(isMissingData, false);
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    return data as any;
  };

  const root = await fetched(listQuery, {});
  let list = read(listFragment, root).projects;
  assert.equal(list.edges.length, 5);
  const [total] = [(await fetched(projectsQuery, { first: 1 })).projects as { totalCount: number }];
  while (list.pageInfo.hasNextPage) {
    await fetched(pageQuery, { count: 10, cursor: list.pageInfo.endCursor });
    list = read(listFragment, root).projects;
  }
  const ids = list.edges.map((edge: { node: { id: string } }) => edge.node.id);
  assert.equal(new Set(ids).size, total.totalCount);
  assert.equal(ids.length, total.totalCount);

  // A row by its id, with more of its own list.
  const again = await fetched(projectQuery, { id: ids[0], count: 3 });
  const row: Store_project$data = read(rowFragment, again.node);
  assert.equal(row.id, ids[0]);
  // `@semanticNonNull` in the schema: the compiler takes the owner for non-null, or this does not compile.
  assert.match(row.owner.email, /@/);
  assert.ok(row.invoices.edges.length > 0);

  const connections = [ConnectionHandler.getConnectionID("client:root", "Store_projects")];
  const commit = (mutation: GraphQLTaggedNode, input: Record<string, unknown>) =>
    new Promise<void>((resolve, reject) =>
      commitMutation(environment, {
        mutation,
        variables: { input, connections },
        onCompleted: () => resolve(),
        onError: reject,
      }),
    );
  const viewer = await fetched(viewerQuery, {});
  const [organization] = (viewer.organizations as { nodes: { id: string }[] }).nodes;
  await commit(storeCreate, { name: "Relay's own", organizationId: organization!.id });
  const [first] = read(listFragment, root).projects.edges;
  assert.equal(read(rowFragment, first.node).name, "Relay's own");

  const backwards = await fetched(backwardsQuery, { last: 3, before: null });
  assert.equal((backwards.auditLogs as { edges: unknown[] }).edges.length, 3);

  await commit(storeDelete, { id: first.node.id });
  assert.equal(read(listFragment, root).projects.edges.length, ids.length);
}
