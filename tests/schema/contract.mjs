// The schema as a contract: what changed since the last release, and whether that was allowed.
import { diff } from "@graphql-inspector/core";
import { getNamedType, isEnumType, isInputObjectType, isInterfaceType, isObjectType, isUnionType } from "graphql";

/** The elements of a schema by their coordinates: `Project`, `Project.owner`, `Query.project.id`, `ProjectStatus.ACTIVE`. */
export function elements(schema) {
  const found = new Map();
  for (const type of Object.values(schema.getTypeMap())) {
    if (type.name.startsWith("__")) continue;
    found.set(type.name, type);
    const members = isEnumType(type) ? type.getValues() : type.getFields ? Object.values(type.getFields()) : [];
    for (const member of members) {
      found.set(`${type.name}.${member.name}`, member);
      for (const arg of member.args ?? []) found.set(`${type.name}.${member.name}.${arg.name}`, arg);
    }
  }
  return found;
}

/** The types that an operation reaches without an element that is deprecated. */
function reached(schema) {
  const found = new Set();
  const visit = (type) => {
    if (!type || found.has(type.name)) return;
    found.add(type.name);
    if (isUnionType(type) || isInterfaceType(type)) schema.getPossibleTypes(type).forEach(visit);
    if (isObjectType(type) || isInterfaceType(type)) type.getInterfaces().forEach(visit);
    if (!isObjectType(type) && !isInterfaceType(type) && !isInputObjectType(type)) return;
    for (const field of Object.values(type.getFields())) {
      if (field.deprecationReason != null) continue;
      for (const one of [field, ...(field.args ?? [])])
        if (one.deprecationReason == null) visit(getNamedType(one.type));
    }
  };
  [schema.getQueryType(), schema.getMutationType(), schema.getSubscriptionType()].forEach(visit);
  return found;
}

/** Inspector takes each use of a directive for a danger. This one promises as much as a type does. */
const PROMISES = {
  DIRECTIVE_USAGE_FIELD_DEFINITION_ADDED: "NON_BREAKING",
  DIRECTIVE_USAGE_FIELD_DEFINITION_REMOVED: "BREAKING",
};

/** Each change since the release: its name (`FIELD_REMOVED Project.owner`), level, message and coordinate. */
export async function changes(released, present) {
  const named = (await diff(released, present)).map((change) => {
    const member = change.meta?.removedUnionMemberTypeName ?? change.meta?.removedInterfaceName;
    const at = member ? `${change.path}.${member}` : change.path;
    const promised = at.endsWith(".@semanticNonNull") && PROMISES[change.type];
    return { name: `${change.type} ${at}`, at, level: promised || change.criticality.level, type: change.type, message: change.message };
  });
  return named.sort((a, b) => a.name.localeCompare(b.name));
}

/**
 * Why the present schema may not be released. A change that breaks clients needs what was announced, as a deprecation
 * in the last release, or an entry in accepted.json with a reason; and either way a line in the changelog.
 */
export async function violations(released, present, accepted, changelog) {
  const before = elements(released);
  const stillNeeded = reached(released);
  const unreleased = changelog.split(/^## /m).find((part) => part.startsWith("[Unreleased]")) ?? "";
  const told = (at) => unreleased.includes(`\`${at}\``);
  const all = await changes(released, present);
  const found = [];
  for (const { name, at, level, type, message } of all) {
    if (level === "BREAKING") {
      const announced =
        type === "TYPE_REMOVED" ? !stillNeeded.has(at) : /_REMOVED$/.test(type) && before.get(at)?.deprecationReason != null;
      const entry = accepted.find((one) => one.change === name);
      if (!announced && !entry?.reason) found.push(`${name}: ${message}. It was not deprecated in the last release.`);
      if (!told(at)) found.push(`${name}: the changelog does not mention \`${at}\`.`);
    }
    if (/_DEPRECATION_ADDED$/.test(type)) {
      const element = at.replace(/\.@deprecated$/, "");
      if (!told(element)) found.push(`${name}: the changelog does not mention \`${element}\`.`);
    }
  }
  for (const { change } of accepted)
    if (!all.some((one) => one.name === change)) found.push(`${change}: accepted, but there is no such change.`);
  return found;
}
