// Checks every element of the schema against the rules of Relay's specification and of this API.
import { getNamedType, getNullableType, isEnumType, isInterfaceType, isObjectType } from "graphql";

import { elements } from "./contract.mjs";

/** Whether this API defines the type, not GraphQL itself. */
const isOwn = (name) => !name.startsWith("__") && !["Boolean", "Float", "ID", "Int", "String"].includes(name);

export function lint(schema) {
  const errors = [];
  const check = (holds, error) => holds || errors.push(error);
  const all = elements(schema);

  for (const [coordinate, element] of all) {
    if (!isOwn(coordinate)) continue;
    check(element.description?.trim(), `${coordinate}: has no description`);
    if (element.deprecationReason == null) continue;
    // The reason must name a replacement that exists and is not deprecated.
    const replacements = [...element.deprecationReason.matchAll(/`([\w.]+)`/g)].map((match) => match[1]);
    const isUsable = replacements.some((name) => all.has(name) && all.get(name).deprecationReason == null);
    check(
      isUsable || element.deprecationReason.startsWith("No replacement:"),
      `${coordinate}: its deprecation names no replacement that exists`,
    );
  }

  // https://relay.dev/graphql/objectidentification.htm
  const node = schema.getType("Node");
  check(isInterfaceType(node), "Node: is not an interface");
  check(`${node?.getFields().id?.type}` === "ID!", "Node.id: is not ID!");
  const query = schema.getQueryType().getFields();
  check(`${query.node?.type}` === "Node" && `${query.node?.args[0]?.type}` === "ID!", "Query.node: is not node(id: ID!): Node");
  check(`${query.nodes?.type}` === "[Node]!", "Query.nodes: is not nodes(ids: [ID!]!): [Node]!");

  // https://relay.dev/graphql/connections.htm
  const info = schema.getType("PageInfo")?.getFields() ?? {};
  for (const [field, type] of Object.entries({
    hasNextPage: "Boolean!",
    hasPreviousPage: "Boolean!",
    startCursor: "String",
    endCursor: "String",
  }))
    check(`${info[field]?.type}` === type, `PageInfo.${field}: is not ${type}`);

  for (const type of Object.values(schema.getTypeMap())) {
    if (!isObjectType(type) || !isOwn(type.name)) continue;
    const fields = type.getFields();
    const interfaces = type.getInterfaces().map(({ name }) => name);
    // The ID of an event is the ID of the row that changed, so events are not nodes.
    if (fields.id && !type.name.endsWith("Event")) check(interfaces.includes("Node"), `${type.name}: has an id, but does not implement Node`);
    if (type.name.endsWith("Connection")) {
      const edge = getNamedType(fields.edges?.type);
      check(`${fields.pageInfo?.type}` === "PageInfo!", `${type.name}.pageInfo: is not PageInfo!`);
      check(`${fields.edges?.type}` === `[${edge}!]!`, `${type.name}.edges: is not a list of edges`);
      check(`${edge?.getFields().cursor?.type}` === "String!", `${edge}.cursor: is not String!`);
      check(!/^\[/.test(`${getNullableType(edge?.getFields().node?.type)}`), `${edge}.node: is a list`);
    }
    for (const field of Object.values(fields)) {
      const coordinate = `${type.name}.${field.name}`;
      const args = Object.fromEntries(field.args.map((arg) => [arg.name, `${arg.type}`]));
      if (getNamedType(field.type).name.endsWith("Connection"))
        for (const [arg, expected] of Object.entries({ first: "Int", after: "String", last: "Int", before: "String" }))
          check(args[arg] === expected, `${coordinate}.${arg}: is not ${expected}`);
    }
  }

  // Every mutation has one argument `input` and its own payload with `userErrors`.
  for (const field of Object.values(schema.getMutationType()?.getFields() ?? {})) {
    const name = field.name[0].toUpperCase() + field.name.slice(1);
    check(field.args.map((arg) => `${arg.name}: ${arg.type}`).join() === `input: ${name}Input!`, `Mutation.${field.name}: does not have exactly one argument "input"`);
    check(`${field.type}` === `${name}Payload!`, `Mutation.${field.name}: does not return its own payload`);
    const { userErrors } = getNamedType(field.type).getFields?.() ?? {};
    check(`${userErrors?.type}` === "[UserError!]!", `Mutation.${field.name}: its payload has no userErrors`);
  }

  for (const type of Object.values(schema.getTypeMap()))
    if (isEnumType(type) && isOwn(type.name))
      for (const { name } of type.getValues()) check(/^[A-Z][A-Z0-9_]*$/.test(name), `${type.name}.${name}: is not in upper case`);
  return errors;
}
