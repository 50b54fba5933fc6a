/**
 * Operations to start from, made from the schema. Nothing here names what is in this API but the
 * constants at the top and the wording of samples, which only choose between what the schema offers.
 */

import {
  getNamedType,
  getNullableType,
  isAbstractType,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isLeafType,
  isListType,
  isObjectType,
  isRequiredArgument,
  isRequiredInputField,
  parse,
  print,
  type GraphQLField,
  type GraphQLInputField,
  type GraphQLInputType,
  type GraphQLNamedType,
  type GraphQLObjectType,
  type GraphQLSchema,
} from "graphql";

/** A row of each type, by the name of the type: what the variables are filled with. */
export type Rows = Record<string, Record<string, unknown>>;

export interface Example {
  title: string;
  kind: "query" | "mutation";
  document: string;
  /** The types of which the variables need a row, and in which state. */
  needs: Record<string, string | undefined>;
  variables(rows: Rows): Record<string, unknown>;
}

export interface Group {
  name: string;
  examples: Example[];
}

/** Fields that tell a person which row it is, the best first. */
const TELLING = ["name", "title", "number", "displayName", "email", "description", "body", "action", "status", "occurredAt"];

/** The type that shows best what one operation can read. */
const HEADLINE = "Project";

/** The status that a row must have for a mutation to succeed. */
const STATUS: [RegExp, string][] = [
  [/^(issueInvoice|updateInvoice|addInvoiceLineItem)$/, "DRAFT"],
  [/^(payInvoice|voidInvoice|markInvoiceUncollectible)$/, "OPEN"],
  [/^unarchive/, "ARCHIVED"],
];

type AnyField = GraphQLField<unknown, unknown>;

const fieldsOf = (type: GraphQLObjectType): AnyField[] => Object.values(type.getFields()).filter(({ deprecationReason }) => !deprecationReason);
const needsArguments = (field: AnyField) => field.args.some(isRequiredArgument);
const isRow = (type: GraphQLNamedType): type is GraphQLObjectType =>
  isObjectType(type) && type.getInterfaces().some(({ name }) => name === "Node");
const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
/** `InvoiceLineItem`: "invoice line item". */
const words = (name: string) => name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase();

/** The type of a connection's rows. */
function rowsOf(type: GraphQLNamedType): GraphQLObjectType | undefined {
  const nodes = isObjectType(type) ? type.getFields().nodes : undefined;
  const row = nodes && getNamedType(nodes.type);
  return row && isObjectType(row) ? row : undefined;
}

/** Plain columns, and objects of plain columns such as an amount of money. */
function columns(type: GraphQLObjectType): string[] {
  const rank = (name: string) => ["id", ...TELLING, name].indexOf(name);
  const fields = fieldsOf(type).sort((a, b) => rank(a.name) - rank(b.name));
  return fields.flatMap((field) => {
    const of = getNamedType(field.type);
    if (needsArguments(field)) return [];
    if (isLeafType(of)) return [field.name];
    const isValue = isObjectType(of) && !isRow(of) && fieldsOf(of).every(({ type }) => isLeafType(getNamedType(type)));
    return isValue ? [`${field.name} { ${fieldsOf(of).map(({ name }) => name).join(" ")} }`] : [];
  });
}

/** Enough to recognise a row. */
function label(type: GraphQLNamedType): string {
  if (isAbstractType(type)) {
    const members = isInterfaceType(type) ? "id" : "... on Node { id }";
    return `__typename ${members}`;
  }
  if (!isObjectType(type)) return "";
  const own = columns(type);
  const telling = TELLING.filter((name) => own.includes(name)).slice(0, 3);
  const all = [...(own.includes("id") ? ["id"] : []), ...telling];
  return (all.length ? all : own.slice(0, 4)).join(" ");
}

/** The columns of a row with what it leads to, one step far; of lists a few, with their own owners. */
function relations(type: GraphQLObjectType, from?: GraphQLObjectType): string {
  const parts = [from ? label(type) : columns(type).join(" ")];
  for (const field of fieldsOf(type)) {
    const of = getNamedType(field.type);
    if (needsArguments(field) || isLeafType(of) || of === from) continue;
    const rows = rowsOf(of);
    if (rows) {
      if (!from) parts.push(`${field.name}(first: 3) { nodes { ${relations(rows, type)} } }`);
    } else if (isRow(of) || isAbstractType(of)) {
      parts.push(`${field.name} { ${label(of)} }`);
    }
  }
  return parts.join(" ");
}

/** What a payload tells: the objects with their columns, the errors, the results of a batch. */
function payload(type: GraphQLNamedType): string {
  if (!isObjectType(type)) return "";
  const parts = fieldsOf(type).map((field) => {
    const of = getNamedType(field.type);
    if (isLeafType(of)) return field.name;
    if (!isObjectType(of)) return `${field.name} { ${label(of)} }`;
    return `${field.name} { ${isRow(of) ? columns(of).join(" ") : payload(of)} }`;
  });
  return parts.join(" ");
}

function pretty(comment: string, text: string): string {
  return `# ${comment}\n${print(parse(text))}\n`;
}

/** A value of a type, for a field of a name. `subject` is the type that the input is about. */
function sample(schema: GraphQLSchema, name: string, type: GraphQLInputType, rows: Rows, subject: string): unknown {
  const plain = getNullableType(type);
  if (isListType(plain)) return [sample(schema, name.replace(/s$/, ""), plain.ofType as GraphQLInputType, rows, subject)];
  if (isInputObjectType(plain)) return skeleton(schema, plain.getFields(), rows, subject, false);
  if (isEnumType(plain)) return plain.getValues()[0]?.name;
  switch (getNamedType(plain).name) {
    case "ID":
      return idOf(referred(schema, name, subject), rows);
    case "Int":
      return 1;
    case "Float":
      return 1.5;
    case "Boolean":
      return false;
    case "Decimal":
      return "1.50";
    case "Date":
      return new Date(Date.now() + 30 * 86_400_000).toISOString().slice(0, 10);
    case "DateTime":
      return new Date().toISOString();
    case "CurrencyCode":
      return "EUR";
    case "JSON":
      return {};
    default:
      return wording(name, subject);
  }
}

function wording(name: string, subject: string): string {
  // Where a text must be the only one of its kind, it should also work the second time.
  const unique = Date.now().toString(36).toUpperCase().padStart(8, "0").slice(-8);
  switch (name) {
    case "email":
      return `${unique.toLowerCase()}@explorer.example`;
    case "slug":
      return `explorer-${unique.toLowerCase()}`;
    case "asin":
      return `EX${unique}`;
    case "body":
      return "Said in the explorer";
    default:
      return `A ${words(subject)} from the explorer`;
  }
}

function idOf(type: string | undefined, rows: Rows): unknown {
  return (type && rows[type]?.id) ?? `no ${type ? words(type) : "object"} is visible to this user`;
}

/** The type whose id a field holds: by its name, or by the relation of that name. */
function referred(schema: GraphQLSchema, name: string, subject: string): string | undefined {
  const base = name.replace(/Ids?$/, "");
  if (name === "id" || base === "id") return subject;
  const named = schema.getType(capital(base));
  if (named && isRow(named)) return named.name;
  const about = schema.getType(subject);
  const relation = about && isObjectType(about) ? about.getFields()[base] : undefined;
  const of = relation && getNamedType(relation.type);
  if (!of) return undefined;
  return isAbstractType(of) ? schema.getPossibleTypes(of)[0]?.name : of.name;
}

/**
 * The fields of an input that must be there. Of an input that changes a row also what it could change,
 * as it is now, so that one edits instead of looking up names.
 */
function skeleton(
  schema: GraphQLSchema,
  fields: Record<string, GraphQLInputField>,
  rows: Rows,
  subject: string,
  changes: boolean,
): Record<string, unknown> {
  const row = rows[subject];
  const entries = Object.values(fields).flatMap((field) => {
    if (changes && field.name === "ifVersion" && row?.version !== undefined) return [[field.name, row.version]];
    const current = changes && field.name !== "id" ? row?.[field.name] : undefined;
    if (current !== undefined && current !== null) return [[field.name, current]];
    // Also its parts, such as the lines of an invoice: without them it is a poor example.
    const parts = !changes && isListType(getNullableType(field.type)) && isInputObjectType(getNamedType(field.type));
    return isRequiredInputField(field) || parts ? [[field.name, sample(schema, field.name, field.type, rows, subject)]] : [];
  });
  return Object.fromEntries(entries) as Record<string, unknown>;
}

/** Every type that the samples of an input refer to. */
function needed(schema: GraphQLSchema, fields: Record<string, GraphQLInputField>, subject: string, seen = new Set<string>()): string[] {
  return Object.values(fields).flatMap((field) => {
    const of = getNamedType(field.type);
    if (of.name === "ID") return [referred(schema, field.name, subject) ?? []].flat();
    if (!isInputObjectType(of) || seen.has(of.name)) return [];
    return needed(schema, of.getFields(), subject, seen.add(of.name));
  });
}

/** A filter that finds at least the row that it was made from. */
function filterBy(filter: GraphQLNamedType, row: Record<string, unknown> | undefined): Record<string, unknown> {
  if (!isInputObjectType(filter)) return {};
  const fields = Object.values(filter.getFields());
  const operators = (field: GraphQLInputField) => {
    const of = getNamedType(field.type);
    return isInputObjectType(of) && of !== filter ? of.getFields() : undefined;
  };
  for (const field of fields) {
    const list = operators(field)?.in;
    const value = row?.[field.name];
    if (list && value && isEnumType(getNamedType(list.type))) return { [field.name]: { in: [value] } };
  }
  for (const field of fields) {
    const value = row?.[field.name];
    if (operators(field)?.contains && typeof value === "string") return { [field.name]: { contains: value.slice(0, 3) } };
  }
  for (const name of ["occurredAt", "createdAt"]) {
    const field = filter.getFields()[name];
    if (field && operators(field)?.lte) return { [name]: { lte: new Date().toISOString() } };
  }
  return {};
}

function orderBy(type: GraphQLNamedType): unknown[] {
  if (!isInputObjectType(type)) return [];
  const { field } = type.getFields();
  const by = field && getNamedType(field.type);
  if (!by || !isEnumType(by)) return [];
  const names = by.getValues().map(({ name }) => name);
  const best = ["NAME", "TITLE", "OCCURRED_AT", "CREATED_AT"].find((name) => names.includes(name)) ?? names[0];
  return [{ field: best, direction: "ASC" }];
}

/** One by id, a page, a page with relations, and through `node`, for every type with rows. */
function readsOf(field: AnyField): Example[] {
  const of = getNamedType(field.type);
  const args = Object.fromEntries(field.args.map((arg) => [arg.name, arg]));
  if (isRow(of) && args.id) {
    const one = words(of.name);
    const byId = (rows: Rows) => ({ id: idOf(of.name, rows) });
    const needs = { [of.name]: undefined };
    return [
      {
        title: `One ${one} by id`,
        kind: "query",
        document: pretty(`One ${one} by its id.`, `query ${of.name}ById($id: ID!) { ${field.name}(id: $id) { ${columns(of).join(" ")} } }`),
        needs,
        variables: byId,
      },
      {
        title: `A ${one} through node`,
        kind: "query",
        document: pretty(
          "Any object by its id, whatever its type.",
          `query ${of.name}AsNode($id: ID!) { node(id: $id) { __typename id ... on ${of.name} { ${label(of)} } } }`,
        ),
        needs,
        variables: byId,
      },
    ];
  }
  const rows = rowsOf(of);
  if (!rows || !args.first) return [];
  const many = words(capital(field.name));
  const extra = ["filter", "orderBy"].filter((name) => args[name]);
  const declared = extra.map((name) => `, $${name}: ${String(args[name]!.type)}`).join("");
  const passed = extra.map((name) => `, ${name}: $${name}`).join("");
  return [
    {
      title: `A page of ${many}, filtered and ordered`,
      kind: "query",
      document: pretty(
        "A page. For the next one, put pageInfo.endCursor into $after.",
        `query ${capital(field.name)}Page($first: Int = 10, $after: String${declared}) {
          ${field.name}(first: $first, after: $after${passed}) {
            totalCount nodes { ${columns(rows).join(" ")} } pageInfo { hasNextPage endCursor } } }`,
      ),
      needs: { [rows.name]: undefined },
      variables: (known) => ({
        first: 10,
        after: null,
        ...(args.filter && { filter: filterBy(getNamedType(args.filter.type), known[rows.name]) }),
        ...(args.orderBy && { orderBy: orderBy(getNamedType(args.orderBy.type)) }),
      }),
    },
    {
      title: `${capital(many)} with everything they lead to`,
      kind: "query",
      document: pretty(
        `A page of ${many} with their relations. However many rows: one statement for each relation.`,
        `query ${capital(field.name)}WithRelations($first: Int = 5) {
          ${field.name}(first: $first) { totalCount nodes { ${relations(rows)} } pageInfo { hasNextPage endCursor } } }`,
      ),
      needs: {},
      variables: () => ({ first: 5 }),
    },
  ];
}

/** Root fields without arguments: whoever asks, what all share. */
function plain(field: AnyField): Example[] {
  const of = getNamedType(field.type);
  if (field.args.length || !isObjectType(of)) return [];
  const selection = fieldsOf(of).flatMap((inner) => {
    const type = getNamedType(inner.type);
    if (needsArguments(inner) || isLeafType(type)) return needsArguments(inner) ? [] : [inner.name];
    if (rowsOf(type)) return [];
    return [`${inner.name} { ${isObjectType(type) && !isRow(type) ? payload(type) : label(type)} }`];
  });
  const title = words(capital(field.name));
  return [
    {
      title: capital(title),
      kind: "query",
      document: pretty(firstSentence(field.description) ?? capital(title), `query ${capital(field.name)} { ${field.name} { ${selection.join(" ")} } }`),
      needs: {},
      variables: () => ({}),
    },
  ];
}

function firstSentence(description: string | null | undefined): string | undefined {
  return description?.replaceAll(/\s+/g, " ").match(/^.*?[.;:](?= |$)/)?.[0]?.replace(/[;:]$/, ".");
}

/** The type that a mutation is about: the longest name of a type in its own name. */
function subjectOf(field: AnyField, types: GraphQLObjectType[]): string | undefined {
  const about = types.filter(({ name }) => field.name.includes(name));
  return about.sort((a, b) => b.name.length - a.name.length)[0]?.name;
}

function mutation(schema: GraphQLSchema, field: AnyField, subject: string): Example {
  const declared = field.args.map((arg) => `$${arg.name}: ${String(arg.type)}`).join(", ");
  const passed = field.args.map((arg) => `${arg.name}: $${arg.name}`).join(", ");
  const changes = !/^(create|import|invite|add)/.test(field.name);
  const status = STATUS.find(([names]) => names.test(field.name))?.[1];
  const types = field.args.flatMap((arg) => {
    const of = getNamedType(arg.type);
    return isInputObjectType(of) ? needed(schema, of.getFields(), subject) : [];
  });
  return {
    title: words(capital(field.name)).replace(/^./, (letter) => letter.toUpperCase()),
    kind: "mutation",
    document: pretty(
      firstSentence(field.description) ?? field.name,
      `mutation ${capital(field.name)}(${declared}) { ${field.name}(${passed}) { ${payload(getNamedType(field.type))} } }`,
    ),
    needs: Object.fromEntries(
      [...types, ...(changes ? [subject] : [])].map((type) => [type, status && field.name.includes(type) ? status : undefined]),
    ),
    variables: (rows) =>
      Object.fromEntries(
        field.args.map((arg) => {
          const of = getNamedType(arg.type);
          const value = isInputObjectType(of)
            ? skeleton(schema, of.getFields(), rows, subject, changes)
            : sample(schema, arg.name, arg.type, rows, subject);
          return [arg.name, value];
        }),
      ),
  };
}

/** Every example, by type; first of all the ones to start with. */
export function examplesOf(schema: GraphQLSchema): Group[] {
  const queries = schema.getQueryType();
  if (!queries) return [];
  const types = Object.values(schema.getTypeMap()).filter(isRow);
  const groups = new Map<string, Example[]>();
  const add = (name: string, examples: Example[]) => groups.set(name, [...(groups.get(name) ?? []), ...examples]);

  for (const field of fieldsOf(queries)) {
    const of = getNamedType(field.type);
    const about = rowsOf(of) ?? of;
    if (isRow(about) && field.args.length) add(about.name, readsOf(field));
  }
  for (const field of fieldsOf(schema.getMutationType() ?? queries)) {
    const subject = schema.getMutationType() && subjectOf(field, types);
    if (subject) add(subject, [mutation(schema, field, subject)]);
  }

  const byType = [...groups.keys()]
    .sort()
    .map((name) => ({ name: capital(words(name)), examples: groups.get(name) ?? [] }));
  const headline = groups.get(HEADLINE) ?? byType[0]?.examples ?? [];
  const start = [
    ...headline.filter(({ title }) => title.endsWith("lead to")),
    ...fieldsOf(queries).flatMap(plain),
  ];
  return [{ name: "To start with", examples: start }, ...byType];
}

/** Marks the rows that are in the wanted state, beside any others. */
const FITTING = "_fitting";

/** The operation that finds the rows for an example, if it needs any. */
export function rowsQuery(schema: GraphQLSchema, needs: Example["needs"]): string | undefined {
  const queries = schema.getQueryType();
  const fields = queries ? fieldsOf(queries) : [];
  const parts = Object.entries(needs).flatMap(([name, status]) => {
    const type = schema.getType(name);
    if (!type || !isObjectType(type)) return [];
    const selection = fieldsOf(type).filter((field) => !needsArguments(field) && isLeafType(getNamedType(field.type)));
    const leaves = selection.map(({ name }) => name).join(" ");
    const list = fields.find((field) => rowsOf(getNamedType(field.type)) === type);
    if (list) {
      const any = `${name}: ${list.name}(first: 20) { nodes { ${leaves} } }`;
      const filter = `(first: 1, filter: { status: { eq: ${status} } })`;
      return status ? [any, `${name}${FITTING}: ${list.name}${filter} { nodes { ${leaves} } }`] : [any];
    }
    const single = fields.find((field) => getNamedType(field.type) === type && !field.args.length);
    return single ? [`${name}: ${single.name} { ${leaves} }`] : [];
  });
  return parts.length ? `query ExplorerRows { ${parts.join(" ")} }` : undefined;
}

/** The rows in the answer to {@link rowsQuery}: in the wanted state, and one's own, where there are such. */
export function rowsIn(data: Record<string, unknown> | null | undefined): Rows {
  const rows: Rows = {};
  for (const [alias, found] of Object.entries(data ?? {})) {
    if (!found) continue;
    const nodes = (found as { nodes?: Record<string, unknown>[] }).nodes ?? [found as Record<string, unknown>];
    const row = nodes.find((node) => node.viewerCanEdit && node.viewerCanDelete) ?? nodes[0];
    if (row) rows[alias.replace(FITTING, "")] = row;
  }
  return rows;
}
