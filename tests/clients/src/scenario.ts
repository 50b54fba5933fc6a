// The scenario that every client plays; scenario.py and scenario.sh play the same one.
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
import type { Answer, Connect } from "./client";

export type Service = { url: string; tokens: [string, string] };

export async function scenario(connect: Connect, name: string, { url, tokens }: Service): Promise<void> {
  const client = connect(url, tokens[0]);
  const ok = <T>({ data, codes }: Answer<T>): T => {
    assert.deepEqual(codes, []);
    assert.ok(data);
    return data;
  };

  // Without a token, and with one that proves nothing.
  for (const token of [undefined, "not.a.token"]) {
    const { data, codes } = await connect(url, token).ask(ScenarioViewerQueryDocument, {});
    assert.deepEqual([data ?? null, codes], [null, ["UNAUTHENTICATED"]]);
  }

  const { viewer, organizations } = ok(await client.ask(ScenarioViewerQueryDocument, {}));
  assert.deepEqual([viewer.role, viewer.tenant?.slug, viewer.user?.email], ["OWNER", "acme", "olivia@acme.example"]);
  assert.ok(new Date(viewer.tokenExpiresAt) > new Date());

  // Every page: each row once, cursors that fit, invoices in it.
  const seen: string[] = [];
  let invoices = 0;
  let after: string | null = null;
  for (;;) {
    const page: ScenarioProjectsQueryQuery = ok(await client.ask(ScenarioProjectsQueryDocument, { first: 7, after }));
    const { edges, pageInfo, totalCount } = page.projects;
    assert.equal(pageInfo.startCursor, edges[0]?.cursor);
    assert.equal(pageInfo.endCursor, edges.at(-1)?.cursor);
    assert.equal(pageInfo.hasPreviousPage, after !== null);
    for (const { node } of edges) {
      seen.push(node.id);
      assert.ok(node.invoices.nodes.length <= 2 && node.invoices.nodes.length <= node.invoices.totalCount);
      for (const { number, status, total } of node.invoices.nodes) {
        assert.equal(number === null, status === "DRAFT");
        assert.match(total.amount, /^\d+\.\d\d$/);
        assert.equal(total.currencyCode, "EUR");
        invoices += 1;
      }
    }
    assert.equal(pageInfo.hasNextPage, seen.length < totalCount);
    if (!pageInfo.hasNextPage) break;
    after = pageInfo.endCursor ?? null;
  }
  assert.equal(new Set(seen).size, seen.length);
  assert.ok(seen.length > 7 && invoices > 0);

  // Created once, however often it is sent with the same key.
  const title = `Made by ${name}`;
  const input = { name: title, organizationId: organizations.nodes[0]!.id, dueOn: "2030-02-28" };
  const headers = { "idempotency-key": `scenario ${name}` };
  const { createProject: made } = ok(await client.ask(ScenarioCreateMutationDocument, { input }, headers));
  assert.deepEqual(made.userErrors, []);
  const project = made.project!;
  assert.deepEqual(project, { ...project, name: title, version: 1, description: null, dueOn: "2030-02-28" });
  const { createProject: repeated } = ok(await client.ask(ScenarioCreateMutationDocument, { input }, headers));
  assert.equal(repeated.project?.id, project.id);
  const filter = { name: { eq: title } };
  const found = ok(await client.ask(ScenarioProjectsQueryDocument, { first: 7, filter })).projects;
  assert.deepEqual(found.edges.map((edge) => edge.node.id), [project.id]);

  // By its id: for its tenant, and for no other.
  const { id } = project;
  const { node } = ok(await client.ask(ScenarioNodeQueryDocument, { id }));
  assert.equal(node?.__typename, "Project");
  assert.equal("name" in node! && node.name, title);
  const foreign = connect(url, tokens[1]);
  assert.equal(ok(await foreign.ask(ScenarioNodeQueryDocument, { id })).node, null);

  // A change of the version that was seen; the same once more is a conflict, and shows what is there.
  const change = { id, ifVersion: 1, description: "Changed" };
  const { updateProject: changed } = ok(await client.ask(ScenarioUpdateMutationDocument, { input: change }));
  assert.deepEqual([changed.userErrors, changed.project?.version, changed.project?.name], [[], 2, title]);
  const { updateProject: late } = ok(
    await client.ask(ScenarioUpdateMutationDocument, { input: { ...change, description: "Late" } }),
  );
  assert.deepEqual(late.userErrors.map((error) => error.code), ["CONFLICT"]);
  assert.deepEqual([late.project?.version, late.project?.description], [2, "Changed"]);

  // A refusal names its field and writes nothing.
  const { updateProject: refused } = ok(await client.ask(ScenarioUpdateMutationDocument, { input: { id, name: "" } }));
  assert.equal(refused.project, null);
  assert.deepEqual(refused.userErrors.map(({ code, field }) => [code, field]), [["REQUIRED", ["input", "name"]]]);

  // A variable that cannot be used is an error of the request.
  assert.deepEqual((await client.ask(ScenarioNodeQueryDocument, { id: "nonsense" })).codes, ["BAD_USER_INPUT"]);

  const { deleteProject: gone } = ok(await client.ask(ScenarioDeleteMutationDocument, { input: { id, ifVersion: 2 } }));
  assert.deepEqual([gone.userErrors, gone.project?.id], [[], id]);
  assert.equal(ok(await client.ask(ScenarioNodeQueryDocument, { id })).node, null);
  const { deleteProject: twice } = ok(await client.ask(ScenarioDeleteMutationDocument, { input: { id } }));
  assert.deepEqual(twice.userErrors.map((error) => error.code), ["NOT_FOUND"]);
}
