// Tests that contract.mjs and lint.mjs find each kind of violation.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { buildASTSchema, parse, parseType, visit } from "graphql";

import { changes, violations } from "./contract.mjs";
import { lint } from "./lint.mjs";

const sdl = parse(readFileSync(new URL("../../schema.graphql", import.meta.url), "utf8"));

/** Returns the schema after edits: `{ "Project.name": edit }`. An edit that returns null removes its element. */
function schemaWith(edits = {}) {
  const path = [];
  const pending = new Set(Object.keys(edits));
  const editedSdl = visit(sdl, {
    enter(node) {
      if (!node.kind.endsWith("Definition") || !node.name) return undefined;
      path.push(node.name.value);
      return undefined;
    },
    leave(node) {
      if (!node.kind.endsWith("Definition") || !node.name) return undefined;
      const coordinate = path.join(".");
      path.pop();
      return pending.delete(coordinate) ? edits[coordinate](node) : undefined;
    },
  });
  assert.deepEqual([...pending], []);
  return buildASTSchema(editedSdl);
}

const remove = () => null;
const setType = (type) => (node) => ({ ...node, type: parseType(type) });
const rename = (name) => (node) => ({ ...node, name: { kind: "Name", value: name } });
const removeDescription = (node) => ({ ...node, description: undefined });
const removeDirectives = (node) => ({ ...node, directives: [] });
const removeInterfaces = (node) => ({ ...node, interfaces: [] });
const addInputField = (field) => (node) => ({
  ...node,
  fields: [...node.fields, ...parse(`input I { ${field} }`).definitions[0].fields],
});
const deprecate = (reason) => (node) => ({
  ...node,
  directives: parse(`type T { f: Int @deprecated(reason: ${JSON.stringify(reason)}) }`).definitions[0].fields[0].directives,
});

const schema = schemaWith();
/** Returns a changelog that mentions these coordinates. */
const changelogWith = (...coordinates) => {
  const lines = coordinates.map((coordinate) => `- \`${coordinate}\``).join("\n");
  return `# Changelog\n\n## [Unreleased]\n\n${lines}\n\n## [0.1.0]\n`;
};
const withDeprecation = schemaWith({ "Project.name": deprecate("Use `Project.id`.") });
const withRemoval = schemaWith({ "Project.name": remove });

test("an unchanged schema has no changes and no violations", async () => {
  assert.deepEqual(await changes(schema, schema), []);
  assert.deepEqual(await violations(schema, schema, [], changelogWith()), []);
  assert.deepEqual(lint(schema), []);
});

for (const [description, name, edits] of [
  ["a field is removed", "FIELD_REMOVED Project.name", { "Project.name": remove }],
  ["a field becomes nullable", "FIELD_TYPE_CHANGED Project.name", { "Project.name": setType("String") }],
  [
    "a field loses @semanticNonNull",
    "DIRECTIVE_USAGE_FIELD_DEFINITION_REMOVED Project.owner.@semanticNonNull",
    { "Project.owner": removeDirectives },
  ],
  ["an enum value is removed", "ENUM_VALUE_REMOVED ProjectStatus.ON_HOLD", { "ProjectStatus.ON_HOLD": remove }],
  [
    "a type is removed from a union",
    "UNION_MEMBER_REMOVED AuditActor.SystemActor",
    { AuditActor: (node) => ({ ...node, types: node.types.filter((type) => type.name.value !== "SystemActor") }) },
  ],
  [
    "an input gets a required field",
    "INPUT_FIELD_ADDED DeleteProjectInput.reason",
    { DeleteProjectInput: addInputField('"The reason." reason: String!') },
  ],
  ["a type no longer implements Node", "OBJECT_TYPE_INTERFACE_REMOVED Product.Node", { Product: removeInterfaces }],
  ["an argument is removed", "FIELD_ARGUMENT_REMOVED Query.projects.filter", { "Query.projects.filter": remove }],
  ["an argument becomes required", "FIELD_ARGUMENT_TYPE_CHANGED Query.projects.first", { "Query.projects.first": setType("Int!") }],
]) {
  test(`breaking change: ${description}`, async () => {
    const current = schemaWith(edits);
    const breaking = (await changes(schema, current)).filter((change) => change.level === "BREAKING");
    assert.deepEqual(breaking.map((change) => change.name), [name]);
    const coordinate = name.split(" ")[1];
    const [first, second, ...rest] = await violations(schema, current, [], changelogWith());
    assert.match(first, /not deprecated in the last release/);
    assert.match(second, /changelog/);
    assert.deepEqual(rest, []);
    // An entry with a reason allows the change if the changelog mentions it.
    const accepted = [{ change: name, reason: "because" }];
    assert.equal((await violations(schema, current, accepted, changelogWith())).length, 1);
    assert.deepEqual(await violations(schema, current, accepted, changelogWith(coordinate)), []);
    assert.equal((await violations(schema, current, [{ change: name, reason: "" }], changelogWith(coordinate))).length, 1);
  });
}

test("a field that the last release deprecated may be removed together with its types", async () => {
  assert.deepEqual(await violations(withDeprecation, withRemoval, [], changelogWith("Project.name")), []);
  assert.equal((await violations(withDeprecation, withRemoval, [], changelogWith())).length, 1);

  // A type may be removed if it was reachable only through deprecated fields.
  const mutation = "Mutation.deleteProjects";
  const types = ["DeleteProjectsInput", "DeleteProjectsPayload", "DeleteProjectsResult"];
  const before = schemaWith({ [mutation]: deprecate("Use `Mutation.deleteProject`.") });
  const after = schemaWith(Object.fromEntries([mutation, ...types].map((coordinate) => [coordinate, remove])));
  assert.deepEqual(await violations(before, after, [], changelogWith(mutation, ...types)), []);
  // Without the deprecation, each removal is a violation.
  const found = await violations(schema, after, [], changelogWith(mutation, ...types));
  assert.deepEqual(found.map((violation) => violation.split(":")[0].split(" ")[1]), ["Mutation.deleteProjects", ...types]);
});

test("a deprecation must be in the changelog and name a replacement that exists", async () => {
  assert.deepEqual(await violations(schema, withDeprecation, [], changelogWith("Project.name")), []);
  assert.match((await violations(schema, withDeprecation, [], changelogWith())).join(), /does not mention `Project.name`/);
  assert.deepEqual(lint(withDeprecation), []);
  const errorsFor = (reason) => lint(schemaWith({ "Project.name": deprecate(reason) }));
  assert.match(errorsFor("Old.").join(), /names no replacement/);
  assert.match(errorsFor("Use `Project.title`.").join(), /names no replacement/);
  assert.match(errorsFor("Use `Project.name`.").join(), /names no replacement/);
  assert.deepEqual(errorsFor("No replacement: no client used it."), []);
});

test("an entry in accepted.json without a matching change is a violation", async () => {
  assert.match((await violations(schema, schema, [{ change: "FIELD_REMOVED X.y", reason: "r" }], changelogWith())).join(), /no such change/);
});

for (const [error, edits] of [
  ["Project.name: has no description", { "Project.name": removeDescription }],
  ["Query.node.id: has no description", { "Query.node.id": removeDescription }],
  ["ProjectStatus.ACTIVE: has no description", { "ProjectStatus.ACTIVE": removeDescription }],
  ["Product: has an id, but does not implement Node", { Product: removeInterfaces }],
  ["Query.nodes: is not nodes(ids: [ID!]!): [Node]!", { "Query.nodes": setType("[Node!]!") }],
  ["ProjectEdge.cursor: is not String!", { "ProjectEdge.cursor": setType("Int!") }],
  ["PageInfo.hasNextPage: is not Boolean!", { "PageInfo.hasNextPage": setType("Boolean") }],
  ["Query.projects.last: is not Int", { "Query.projects.last": setType("String") }],
  ["Mutation.updateProject: its payload has no userErrors", { "UpdateProjectPayload.userErrors": rename("problems") }],
  ['Mutation.updateProject: does not have exactly one argument "input"', { "Mutation.updateProject.input": rename("project") }],
]) {
  test(`lint error: ${error}`, () => assert.deepEqual(lint(schemaWith(edits)), [error]));
}
