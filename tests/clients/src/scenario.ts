// The scenario that every client runs. scenario.py and scenario.sh repeat it.
import assert from "node:assert/strict";

import {
  ScenarioCreateMutationDocument,
  ScenarioDeleteMutationDocument,
  ScenarioNodeQueryDocument,
  type ScenarioProjectsQueryQuery,
  ScenarioProjectsQueryDocument,
  ScenarioUpdateMutationDocument,
  ScenarioViewerQueryDocument,
} from "../generated/gql/graphql";
import type { Connect, Result } from "./client";

export type Service = { url: string; tokens: [string, string] };

export async function scenario(connect: Connect, name: string, { url, tokens }: Service): Promise<void> {
  const client = connect(url, tokens[0]);
  const dataOf = <T>({ data, codes }: Result<T>): T => {
    assert.deepEqual(codes, []);
    assert.ok(data);
    return data;
  };

  // The service rejects requests without a token and with an invalid token.
  for (const token of [undefined, "not.a.token"]) {
    const { data, codes } = await connect(url, token).execute(ScenarioViewerQueryDocument, {});
    assert.deepEqual([data ?? null, codes], [null, ["UNAUTHENTICATED"]]);
  }

  const { viewer, organizations } = dataOf(await client.execute(ScenarioViewerQueryDocument, {}));
  assert.deepEqual([viewer.role, viewer.tenant?.slug, viewer.user?.email], ["OWNER", "acme", "olivia@acme.example"]);
  assert.ok(new Date(viewer.tokenExpiresAt) > new Date());

  // All pages: each row appears once, the cursors match, the invoices are nested in their projects.
  const ids: string[] = [];
  let invoices = 0;
  let after: string | null = null;
  for (;;) {
    const page: ScenarioProjectsQueryQuery = dataOf(await client.execute(ScenarioProjectsQueryDocument, { first: 7, after }));
    const { edges, pageInfo, totalCount } = page.projects;
    assert.equal(pageInfo.startCursor, edges[0]?.cursor);
    assert.equal(pageInfo.endCursor, edges.at(-1)?.cursor);
    assert.equal(pageInfo.hasPreviousPage, after !== null);
    for (const { node } of edges) {
      ids.push(node.id);
      assert.ok(node.invoices.nodes.length <= 2 && node.invoices.nodes.length <= node.invoices.totalCount);
      for (const { number, status, total } of node.invoices.nodes) {
        assert.equal(number === null, status === "DRAFT");
        assert.match(total.amount, /^\d+\.\d\d$/);
        assert.equal(total.currencyCode, "EUR");
        invoices += 1;
      }
    }
    assert.equal(pageInfo.hasNextPage, ids.length < totalCount);
    if (!pageInfo.hasNextPage) break;
    after = pageInfo.endCursor ?? null;
  }
  assert.equal(new Set(ids).size, ids.length);
  assert.ok(ids.length > 7 && invoices > 0);

  // Two requests with the same idempotency key create one project.
  const projectName = `Created by ${name}`;
  const input = { name: projectName, organizationId: organizations.nodes[0]!.id, dueOn: "2030-02-28" };
  const headers = { "idempotency-key": `scenario ${name}` };
  const { createProject: created } = dataOf(await client.execute(ScenarioCreateMutationDocument, { input }, headers));
  assert.deepEqual(created.userErrors, []);
  const project = created.project!;
  assert.deepEqual(project, { ...project, name: projectName, version: 1, description: null, dueOn: "2030-02-28" });
  const { createProject: repeated } = dataOf(await client.execute(ScenarioCreateMutationDocument, { input }, headers));
  assert.equal(repeated.project?.id, project.id);
  const filter = { name: { eq: projectName } };
  const found = dataOf(await client.execute(ScenarioProjectsQueryDocument, { first: 7, filter })).projects;
  assert.deepEqual(found.edges.map((edge) => edge.node.id), [project.id]);

  // Only the project's own tenant can read the project by its ID.
  const { id } = project;
  const { node } = dataOf(await client.execute(ScenarioNodeQueryDocument, { id }));
  assert.equal(node?.__typename, "Project");
  assert.equal("name" in node! && node.name, projectName);
  const otherTenant = connect(url, tokens[1]);
  assert.equal(dataOf(await otherTenant.execute(ScenarioNodeQueryDocument, { id })).node, null);

  // An update of the current version succeeds. The repeated update is a conflict and returns the current row.
  const change = { id, ifVersion: 1, description: "Changed" };
  const { updateProject: updated } = dataOf(await client.execute(ScenarioUpdateMutationDocument, { input: change }));
  assert.deepEqual([updated.userErrors, updated.project?.version, updated.project?.name], [[], 2, projectName]);
  const { updateProject: conflicting } = dataOf(
    await client.execute(ScenarioUpdateMutationDocument, { input: { ...change, description: "Late" } }),
  );
  assert.deepEqual(conflicting.userErrors.map((error) => error.code), ["CONFLICT"]);
  assert.deepEqual([conflicting.project?.version, conflicting.project?.description], [2, "Changed"]);

  // A user error names its field, and the mutation writes nothing.
  const { updateProject: invalid } = dataOf(await client.execute(ScenarioUpdateMutationDocument, { input: { id, name: "" } }));
  assert.equal(invalid.project, null);
  assert.deepEqual(invalid.userErrors.map(({ code, field }) => [code, field]), [["REQUIRED", ["input", "name"]]]);

  // An invalid variable is an error of the request, not a user error.
  assert.deepEqual((await client.execute(ScenarioNodeQueryDocument, { id: "nonsense" })).codes, ["BAD_USER_INPUT"]);

  const { deleteProject: deleted } = dataOf(await client.execute(ScenarioDeleteMutationDocument, { input: { id, ifVersion: 2 } }));
  assert.deepEqual([deleted.userErrors, deleted.project?.id], [[], id]);
  assert.equal(dataOf(await client.execute(ScenarioNodeQueryDocument, { id })).node, null);
  const { deleteProject: repeatedDelete } = dataOf(await client.execute(ScenarioDeleteMutationDocument, { input: { id } }));
  assert.deepEqual(repeatedDelete.userErrors.map((error) => error.code), ["NOT_FOUND"]);
}
