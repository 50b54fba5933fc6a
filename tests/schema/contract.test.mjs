// The check itself: a contract that nothing can break would prove nothing.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { buildASTSchema, parse, parseType, visit } from "graphql";

import { changes, violations } from "./contract.mjs";
import { lint } from "./lint.mjs";

const sdl = parse(readFileSync(new URL("../../schema.graphql", import.meta.url), "utf8"));

/** The schema with some elements changed: `{ "Project.name": change }`. What a change makes null is gone. */
function edited(edits = {}) {
  const path = [];
  const todo = new Set(Object.keys(edits));
  const changed = visit(sdl, {
    enter(node) {
      if (!node.kind.endsWith("Definition") || !node.name) return undefined;
      path.push(node.name.value);
      return undefined;
    },
    leave(node) {
      if (!node.kind.endsWith("Definition") || !node.name) return undefined;
      const at = path.join(".");
      path.pop();
      return todo.delete(at) ? edits[at](node) : undefined;
    },
  });
  assert.deepEqual([...todo], []);
  return buildASTSchema(changed);
}

const gone = () => null;
const ofType = (type) => (node) => ({ ...node, type: parseType(type) });
const renamed = (name) => (node) => ({ ...node, name: { kind: "Name", value: name } });
const undescribed = (node) => ({ ...node, description: undefined });
const undirected = (node) => ({ ...node, directives: [] });
const noInterfaces = (node) => ({ ...node, interfaces: [] });
const plus = (field) => (node) => ({
  ...node,
  fields: [...node.fields, ...parse(`input I { ${field} }`).definitions[0].fields],
});
const deprecate = (reason) => (node) => ({
  ...node,
  directives: parse(`type T { f: Int @deprecated(reason: ${JSON.stringify(reason)}) }`).definitions[0].fields[0].directives,
});

const schema = edited();
const told = (...at) => `# Changelog\n\n## [Unreleased]\n\n${at.map((one) => `- \`${one}\``).join("\n")}\n\n## [0.1.0]\n`;
const deprecated = edited({ "Project.name": deprecate("Use `Project.id`.") });
const removed = edited({ "Project.name": gone });

test("the schema is no change of itself", async () => {
  assert.deepEqual(await changes(schema, schema), []);
  assert.deepEqual(await violations(schema, schema, [], told()), []);
  assert.deepEqual(lint(schema), []);
});

for (const [what, name, edits] of [
  ["a field is gone", "FIELD_REMOVED Project.name", { "Project.name": gone }],
  ["a field may be null", "FIELD_TYPE_CHANGED Project.name", { "Project.name": ofType("String") }],
  [
    "a field may be null without an error",
    "DIRECTIVE_USAGE_FIELD_DEFINITION_REMOVED Project.owner.@semanticNonNull",
    { "Project.owner": undirected },
  ],
  ["a value is gone", "ENUM_VALUE_REMOVED ProjectStatus.ON_HOLD", { "ProjectStatus.ON_HOLD": gone }],
  [
    "a type left a union",
    "UNION_MEMBER_REMOVED AuditActor.SystemActor",
    { AuditActor: (node) => ({ ...node, types: node.types.filter((type) => type.name.value !== "SystemActor") }) },
  ],
  ["an input wants more", "INPUT_FIELD_ADDED DeleteProjectInput.why", { DeleteProjectInput: plus('"Why." why: String!') }],
  ["a type is no Node", "OBJECT_TYPE_INTERFACE_REMOVED Product.Node", { Product: noInterfaces }],
  ["an argument is gone", "FIELD_ARGUMENT_REMOVED Query.projects.filter", { "Query.projects.filter": gone }],
  ["an argument must be given", "FIELD_ARGUMENT_TYPE_CHANGED Query.projects.first", { "Query.projects.first": ofType("Int!") }],
]) {
  test(`breaking: ${what}`, async () => {
    const present = edited(edits);
    const breaking = (await changes(schema, present)).filter((change) => change.level === "BREAKING");
    assert.deepEqual(breaking.map((change) => change.name), [name]);
    const at = name.split(" ")[1];
    const [first, second, ...rest] = await violations(schema, present, [], told());
    assert.match(first, /not deprecated in the last release/);
    assert.match(second, /changelog/);
    assert.deepEqual(rest, []);
    // A reason allows it, if the changelog says it too.
    const accepted = [{ change: name, reason: "because" }];
    assert.equal((await violations(schema, present, accepted, told())).length, 1);
    assert.deepEqual(await violations(schema, present, accepted, told(at)), []);
    assert.equal((await violations(schema, present, [{ change: name, reason: "" }], told(at))).length, 1);
  });
}

test("what was deprecated in the last release may go, and its types with it", async () => {
  assert.deepEqual(await violations(deprecated, removed, [], told("Project.name")), []);
  assert.equal((await violations(deprecated, removed, [], told())).length, 1);

  // A type may go when nothing but deprecated fields led to it.
  const mutation = "Mutation.deleteProjects";
  const types = ["DeleteProjectsInput", "DeleteProjectsPayload", "DeleteProjectsResult"];
  const announced = edited({ [mutation]: deprecate("Use `Mutation.deleteProject`.") });
  const without = edited(Object.fromEntries([mutation, ...types].map((at) => [at, gone])));
  assert.deepEqual(await violations(announced, without, [], told(mutation, ...types)), []);
  // Without the warning, all of it is refused.
  const refused = await violations(schema, without, [], told(mutation, ...types));
  assert.deepEqual(refused.map((one) => one.split(":")[0].split(" ")[1]), ["Mutation.deleteProjects", ...types]);
});

test("a deprecation is told in the changelog and names a replacement that is there", async () => {
  assert.deepEqual(await violations(schema, deprecated, [], told("Project.name")), []);
  assert.match((await violations(schema, deprecated, [], told())).join(), /does not mention `Project.name`/);
  assert.deepEqual(lint(deprecated), []);
  const wrong = (reason) => lint(edited({ "Project.name": deprecate(reason) }));
  assert.match(wrong("Old.").join(), /names no replacement/);
  assert.match(wrong("Use `Project.title`.").join(), /names no replacement/);
  assert.match(wrong("Use `Project.name`.").join(), /names no replacement/);
  assert.deepEqual(wrong("No replacement: nobody used it."), []);
});

test("an entry for a change that is not there is refused", async () => {
  assert.match((await violations(schema, schema, [{ change: "FIELD_REMOVED X.y", reason: "r" }], told())).join(), /no such change/);
});

for (const [rule, edits] of [
  ["Project.name: has no description", { "Project.name": undescribed }],
  ["Query.node.id: has no description", { "Query.node.id": undescribed }],
  ["ProjectStatus.ACTIVE: has no description", { "ProjectStatus.ACTIVE": undescribed }],
  ["Product: has an id and is no Node", { Product: noInterfaces }],
  ["Query.nodes: is not nodes(ids: [ID!]!): [Node]!", { "Query.nodes": ofType("[Node!]!") }],
  ["ProjectEdge.cursor: is not String!", { "ProjectEdge.cursor": ofType("Int!") }],
  ["PageInfo.hasNextPage: is not Boolean!", { "PageInfo.hasNextPage": ofType("Boolean") }],
  ["Query.projects.last: is not Int", { "Query.projects.last": ofType("String") }],
  ["Mutation.updateProject: its payload has no userErrors", { "UpdateProjectPayload.userErrors": renamed("problems") }],
  ["Mutation.updateProject: has not one input", { "Mutation.updateProject.input": renamed("project") }],
]) {
  test(`lint: ${rule}`, () => assert.deepEqual(lint(edited(edits)), [rule]));
}
