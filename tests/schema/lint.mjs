// What holds for every element of the schema, whatever the release: Relay's specification and the house's rules.
import { getNamedType, getNullableType, isEnumType, isInterfaceType, isObjectType } from "graphql";

import { elements } from "./contract.mjs";

const own = (name) => !name.startsWith("__") && !["Boolean", "Float", "ID", "Int", "String"].includes(name);

export function lint(schema) {
  const found = [];
  const must = (holds, rule) => holds || found.push(rule);
  const all = elements(schema);

  for (const [at, element] of all) {
    if (!own(at)) continue;
    must(element.description?.trim(), `${at}: has no description`);
    if (element.deprecationReason == null) continue;
    // The reason names what to use instead, and that is there to be used.
    const named = [...element.deprecationReason.matchAll(/`([\w.]+)`/g)].map((match) => match[1]);
    const usable = named.some((name) => all.has(name) && all.get(name).deprecationReason == null);
    must(
      usable || element.deprecationReason.startsWith("No replacement:"),
      `${at}: its deprecation names no replacement that is there`,
    );
  }

  // https://relay.dev/graphql/objectidentification.htm
  const node = schema.getType("Node");
  must(isInterfaceType(node), "Node: is no interface");
  must(`${node?.getFields().id?.type}` === "ID!", "Node.id: is not ID!");
  const query = schema.getQueryType().getFields();
  must(`${query.node?.type}` === "Node" && `${query.node?.args[0]?.type}` === "ID!", "Query.node: is not node(id: ID!): Node");
  must(`${query.nodes?.type}` === "[Node]!", "Query.nodes: is not nodes(ids: [ID!]!): [Node]!");

  // https://relay.dev/graphql/connections.htm
  const info = schema.getType("PageInfo")?.getFields() ?? {};
  for (const [field, type] of Object.entries({
    hasNextPage: "Boolean!",
    hasPreviousPage: "Boolean!",
    startCursor: "String",
    endCursor: "String",
  }))
    must(`${info[field]?.type}` === type, `PageInfo.${field}: is not ${type}`);

  for (const type of Object.values(schema.getTypeMap())) {
    if (!isObjectType(type) || !own(type.name)) continue;
    const fields = type.getFields();
    const interfaces = type.getInterfaces().map((one) => one.name);
    // The id of an event is that of the object that changed.
    if (fields.id && !type.name.endsWith("Event")) must(interfaces.includes("Node"), `${type.name}: has an id and is no Node`);
    if (type.name.endsWith("Connection")) {
      const edge = getNamedType(fields.edges?.type);
      must(`${fields.pageInfo?.type}` === "PageInfo!", `${type.name}.pageInfo: is not PageInfo!`);
      must(`${fields.edges?.type}` === `[${edge}!]!`, `${type.name}.edges: is no list of edges`);
      must(`${edge?.getFields().cursor?.type}` === "String!", `${edge}.cursor: is not String!`);
      must(!/^\[/.test(`${getNullableType(edge?.getFields().node?.type)}`), `${edge}.node: is a list`);
    }
    for (const field of Object.values(fields)) {
      const at = `${type.name}.${field.name}`;
      const args = Object.fromEntries(field.args.map((arg) => [arg.name, `${arg.type}`]));
      if (getNamedType(field.type).name.endsWith("Connection"))
        for (const [arg, wanted] of Object.entries({ first: "Int", after: "String", last: "Int", before: "String" }))
          must(args[arg] === wanted, `${at}.${arg}: is not ${wanted}`);
    }
  }

  // Every mutation: one input, a payload that can say why not.
  for (const field of Object.values(schema.getMutationType()?.getFields() ?? {})) {
    const name = field.name[0].toUpperCase() + field.name.slice(1);
    must(field.args.map((arg) => `${arg.name}: ${arg.type}`).join() === `input: ${name}Input!`, `Mutation.${field.name}: has not one input`);
    must(`${field.type}` === `${name}Payload!`, `Mutation.${field.name}: has no payload of its own`);
    const errors = getNamedType(field.type).getFields?.().userErrors;
    must(`${errors?.type}` === "[UserError!]!", `Mutation.${field.name}: its payload has no userErrors`);
  }

  for (const type of Object.values(schema.getTypeMap()))
    if (isEnumType(type) && own(type.name))
      for (const { name } of type.getValues()) must(/^[A-Z][A-Z0-9_]*$/.test(name), `${type.name}.${name}: is not in capitals`);
  return found;
}
