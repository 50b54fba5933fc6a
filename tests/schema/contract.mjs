// The schema is a contract: this module finds the changes since the last release and checks that they are allowed.
import { diff } from "@graphql-inspector/core";
import { getNamedType, isEnumType, isInputObjectType, isInterfaceType, isObjectType, isUnionType } from "graphql";

/** Maps coordinates to the elements of a schema: `Project`, `Project.owner`, `Query.project.id`, `ProjectStatus.ACTIVE`. */
export function elements(schema) {
  const byCoordinate = new Map();
  for (const type of Object.values(schema.getTypeMap())) {
    if (type.name.startsWith("__")) continue;
    byCoordinate.set(type.name, type);
    const members = isEnumType(type) ? type.getValues() : type.getFields ? Object.values(type.getFields()) : [];
    for (const member of members) {
      byCoordinate.set(`${type.name}.${member.name}`, member);
      for (const arg of member.args ?? []) byCoordinate.set(`${type.name}.${member.name}.${arg.name}`, arg);
    }
  }
  return byCoordinate;
}

/** Returns the names of the types that an operation can reach without using a deprecated element. */
function reachableTypes(schema) {
  const names = new Set();
  const visit = (type) => {
    if (!type || names.has(type.name)) return;
    names.add(type.name);
    if (isUnionType(type) || isInterfaceType(type)) schema.getPossibleTypes(type).forEach(visit);
    if (isObjectType(type) || isInterfaceType(type)) type.getInterfaces().forEach(visit);
    if (!isObjectType(type) && !isInterfaceType(type) && !isInputObjectType(type)) return;
    for (const field of Object.values(type.getFields())) {
      if (field.deprecationReason != null) continue;
      for (const element of [field, ...(field.args ?? [])])
        if (element.deprecationReason == null) visit(getNamedType(element.type));
    }
  };
  [schema.getQueryType(), schema.getMutationType(), schema.getSubscriptionType()].forEach(visit);
  return names;
}

/**
 * The levels of changes of `@semanticNonNull`. Clients rely on this directive as on a non-null type, but GraphQL
 * Inspector reports every change of a directive as dangerous.
 */
const SEMANTIC_NON_NULL_LEVELS = {
  DIRECTIVE_USAGE_FIELD_DEFINITION_ADDED: "NON_BREAKING",
  DIRECTIVE_USAGE_FIELD_DEFINITION_REMOVED: "BREAKING",
};

/** Returns the changes since the release. The name of a change is, for example, `FIELD_REMOVED Project.owner`. */
export async function changes(released, current) {
  const all = (await diff(released, current)).map((change) => {
    const member = change.meta?.removedUnionMemberTypeName ?? change.meta?.removedInterfaceName;
    const coordinate = member ? `${change.path}.${member}` : change.path;
    const ownLevel = coordinate.endsWith(".@semanticNonNull") && SEMANTIC_NON_NULL_LEVELS[change.type];
    const level = ownLevel || change.criticality.level;
    return { name: `${change.type} ${coordinate}`, coordinate, level, type: change.type, message: change.message };
  });
  return all.sort((a, b) => a.name.localeCompare(b.name));
}

/**
 * Returns the reasons why the current schema must not be released. A breaking change requires a deprecation in the last
 * release, or an entry with a reason in accepted.json. In both cases the changelog must mention it.
 */
export async function violations(released, current, accepted, changelog) {
  const releasedElements = elements(released);
  const supportedTypes = reachableTypes(released);
  const unreleased = changelog.split(/^## /m).find((part) => part.startsWith("[Unreleased]")) ?? "";
  const isInChangelog = (coordinate) => unreleased.includes(`\`${coordinate}\``);
  const all = await changes(released, current);
  const reasons = [];
  for (const { name, coordinate, level, type, message } of all) {
    if (level === "BREAKING") {
      const wasDeprecated =
        type === "TYPE_REMOVED"
          ? !supportedTypes.has(coordinate)
          : /_REMOVED$/.test(type) && releasedElements.get(coordinate)?.deprecationReason != null;
      const entry = accepted.find(({ change }) => change === name);
      if (!wasDeprecated && !entry?.reason) reasons.push(`${name}: ${message}. It was not deprecated in the last release.`);
      if (!isInChangelog(coordinate)) reasons.push(`${name}: the changelog does not mention \`${coordinate}\`.`);
    }
    if (/_DEPRECATION_ADDED$/.test(type)) {
      const element = coordinate.replace(/\.@deprecated$/, "");
      if (!isInChangelog(element)) reasons.push(`${name}: the changelog does not mention \`${element}\`.`);
    }
  }
  for (const { change } of accepted)
    if (!all.some(({ name }) => name === change)) reasons.push(`${change}: is in accepted.json, but there is no such change.`);
  return reasons;
}
