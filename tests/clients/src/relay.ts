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

const createEnvironment = (url: string, token?: string) =>
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

/** The result of `lookup`. `fieldErrors` has the error of each field that is null; `@types/relay-runtime` lacks it. */
type LookupResult = { data: unknown; fieldErrors?: { error: unknown }[] | null };

/** Returns the artifact that the Relay compiler generated for an operation. */
function artifactOf(document: { definitions: readonly { name?: { value: string } }[] }): GraphQLTaggedNode {
  return artifacts[document.definitions[0]?.name?.value ?? ""]!;
}

export const connect: Connect = (url, token) => {
  const environment = createEnvironment(url, token);
  return {
    async execute(document, variables, headers) {
      const node = artifactOf(document as never);
      try {
        // `fetchQuery` and `commitMutation` cannot pass headers, so call the environment directly.
        const operation = createOperationDescriptor(getRequest(node), variables, { metadata: { headers }, force: true });
        const run =
          operation.request.node.params.operationKind === "mutation"
            ? environment.executeMutation({ operation })
            : environment.execute({ operation });
        await run.toPromise();
        const { data, fieldErrors } = environment.lookup(operation.fragment) as LookupResult;
        return { data: data as never, codes: codesOf(fieldErrors?.map((one) => one.error)) };
      } catch (error) {
        const { source } = error as { source?: { errors?: unknown } };
        if (!source) throw error;
        return { data: null, codes: codesOf(source.errors) };
      }
    },
  };
};

/** Tests features that only Relay has: connections that grow in the store, refetching with `node`, edge updates. */
export async function testOwnFeatures(url: string, token: string): Promise<void> {
  const environment = createEnvironment(url, token);
  const fetchAndRead = async (node: GraphQLTaggedNode, variables: Record<string, unknown>) => {
    const operation = createOperationDescriptor(getRequest(node), variables);
    await fetchQuery(environment, node, variables).toPromise();
    // Prevent garbage collection while the test reads the data.
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

  const root = await fetchAndRead(listQuery, {});
  let list = read(listFragment, root).projects;
  assert.equal(list.edges.length, 5);
  const { totalCount } = (await fetchAndRead(projectsQuery, { first: 1 })).projects as { totalCount: number };
  while (list.pageInfo.hasNextPage) {
    await fetchAndRead(pageQuery, { count: 10, cursor: list.pageInfo.endCursor });
    list = read(listFragment, root).projects;
  }
  const ids = list.edges.map((edge: { node: { id: string } }) => edge.node.id);
  assert.equal(new Set(ids).size, totalCount);
  assert.equal(ids.length, totalCount);

  // Refetch a row by its ID, with more rows of the list below the row.
  const refetched = await fetchAndRead(projectQuery, { id: ids[0], count: 3 });
  const row: Store_project$data = read(rowFragment, refetched.node);
  assert.equal(row.id, ids[0]);
  // This line compiles only if the Relay compiler treats the owner as non-null, because of `@semanticNonNull`.
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
  const viewer = await fetchAndRead(viewerQuery, {});
  const [organization] = (viewer.organizations as { nodes: { id: string }[] }).nodes;
  await commit(storeCreate, { name: "Created by Relay", organizationId: organization!.id });
  const [first] = read(listFragment, root).projects.edges;
  assert.equal(read(rowFragment, first.node).name, "Created by Relay");

  const backwards = await fetchAndRead(backwardsQuery, { last: 3, before: null });
  assert.equal((backwards.auditLogs as { edges: unknown[] }).edges.length, 3);

  await commit(storeDelete, { id: first.node.id });
  assert.equal(read(listFragment, root).projects.edges.length, ids.length);
}
