/**
 * Generates example operations from the schema. Only the constants at the top and the sample values name parts of this
 * API, and they only choose among what the schema offers.
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

type Row = Record<string, unknown>;

/** One existing row for each type, by the name of the type. The variables take their values from it. */
export type SampleRows = Record<string, Row>;

/** The types of the rows that the variables need, each with the status that its row must have, if any. */
type RequiredRows = Record<string, string | undefined>;

export interface Example {
  title: string;
  kind: "query" | "mutation";
  document: string;
  requiredRows: RequiredRows;
  variables(rows: SampleRows): Record<string, unknown>;
}

export interface ExampleGroup {
  name: string;
  examples: Example[];
}

/** Fields by which a reader recognizes a row. The most useful field is first. */
const LABEL_FIELDS = ["name", "title", "number", "displayName", "email", "description", "body", "action", "status", "occurredAt"];

/** The first example selects the relations of this type. */
const HEADLINE_TYPE = "Project";

/** The status that a row must have so that a mutation succeeds, by the name of the mutation. */
const REQUIRED_STATUS: [RegExp, string][] = [
  [/^(issueInvoice|updateInvoice|addInvoiceLineItem)$/, "DRAFT"],
  [/^(payInvoice|voidInvoice|markInvoiceUncollectible)$/, "OPEN"],
  [/^unarchive/, "ARCHIVED"],
];

const RELATIONS_TITLE = "with all their relations";

type OutputField = GraphQLField<unknown, unknown>;

const fieldsOf = (type: GraphQLObjectType): OutputField[] => Object.values(type.getFields()).filter(({ deprecationReason }) => !deprecationReason);
const requiresArguments = (field: OutputField) => field.args.some(isRequiredArgument);
const isRowType = (type: GraphQLNamedType): type is GraphQLObjectType =>
  isObjectType(type) && type.getInterfaces().some(({ name }) => name === "Node");
const capitalize = (name: string) => name.charAt(0).toUpperCase() + name.slice(1);
/** Turns `InvoiceLineItem` into `invoice line item`. */
const toWords = (name: string) => name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase();

/** Returns the type of a connection's nodes, or undefined if the type is not a connection. */
function nodeType(type: GraphQLNamedType): GraphQLObjectType | undefined {
  const nodes = isObjectType(type) ? type.getFields().nodes : undefined;
  const node = nodes && getNamedType(nodes.type);
  return node && isObjectType(node) ? node : undefined;
}

/** Selects the scalar fields, and objects that have only scalar fields, such as an amount of money. */
function scalarSelections(type: GraphQLObjectType): string[] {
  const rank = (name: string) => ["id", ...LABEL_FIELDS, name].indexOf(name);
  const fields = fieldsOf(type).sort((a, b) => rank(a.name) - rank(b.name));
  return fields.flatMap((field) => {
    const fieldType = getNamedType(field.type);
    if (requiresArguments(field)) return [];
    if (isLeafType(fieldType)) return [field.name];
    const isValue =
      isObjectType(fieldType) && !isRowType(fieldType) && fieldsOf(fieldType).every(({ type }) => isLeafType(getNamedType(type)));
    return isValue ? [`${field.name} { ${fieldsOf(fieldType).map(({ name }) => name).join(" ")} }`] : [];
  });
}

/** Selects the fields by which a reader recognizes a row. */
function labelSelection(type: GraphQLNamedType): string {
  if (isAbstractType(type)) {
    const id = isInterfaceType(type) ? "id" : "... on Node { id }";
    return `__typename ${id}`;
  }
  if (!isObjectType(type)) return "";
  const scalars = scalarSelections(type);
  const labels = LABEL_FIELDS.filter((name) => scalars.includes(name)).slice(0, 3);
  const selections = [...(scalars.includes("id") ? ["id"] : []), ...labels];
  return (selections.length ? selections : scalars.slice(0, 4)).join(" ");
}

/**
 * Selects a row and its relations: the labels of single rows, and three rows of each list with the labels of their
 * single rows.
 */
function relationsSelection(type: GraphQLObjectType, parent?: GraphQLObjectType): string {
  const selections = [parent ? labelSelection(type) : scalarSelections(type).join(" ")];
  for (const field of fieldsOf(type)) {
    const fieldType = getNamedType(field.type);
    if (requiresArguments(field) || isLeafType(fieldType) || fieldType === parent) continue;
    const listed = nodeType(fieldType);
    if (listed) {
      if (!parent) selections.push(`${field.name}(first: 3) { nodes { ${relationsSelection(listed, type)} } }`);
    } else if (isRowType(fieldType) || isAbstractType(fieldType)) {
      selections.push(`${field.name} { ${labelSelection(fieldType)} }`);
    }
  }
  return selections.join(" ");
}

/** Selects everything in a mutation's payload: the rows, the user errors, and the results of a bulk mutation. */
function payloadSelection(type: GraphQLNamedType): string {
  if (!isObjectType(type)) return "";
  const selections = fieldsOf(type).map((field) => {
    const fieldType = getNamedType(field.type);
    if (isLeafType(fieldType)) return field.name;
    if (!isObjectType(fieldType)) return `${field.name} { ${labelSelection(fieldType)} }`;
    return `${field.name} { ${isRowType(fieldType) ? scalarSelections(fieldType).join(" ") : payloadSelection(fieldType)} }`;
  });
  return selections.join(" ");
}

function formatDocument(comment: string, operation: string): string {
  return `# ${comment}\n${print(parse(operation))}\n`;
}

/** Returns a value for an input field. `subject` is the name of the type of row that the input creates or changes. */
function sampleValue(schema: GraphQLSchema, fieldName: string, type: GraphQLInputType, rows: SampleRows, subject: string): unknown {
  const nullable = getNullableType(type);
  if (isListType(nullable)) {
    return [sampleValue(schema, fieldName.replace(/s$/, ""), nullable.ofType as GraphQLInputType, rows, subject)];
  }
  if (isInputObjectType(nullable)) return sampleInput(schema, nullable.getFields(), rows, subject, false);
  if (isEnumType(nullable)) return nullable.getValues()[0]?.name;
  switch (getNamedType(nullable).name) {
    case "ID":
      return sampleId(referencedType(schema, fieldName, subject), rows);
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
      return sampleString(fieldName, subject);
  }
}

function sampleString(fieldName: string, subject: string): string {
  // Some fields must be unique. With a new value each time, the example also works when it is opened again.
  const unique = Date.now().toString(36).toUpperCase().padStart(8, "0").slice(-8);
  switch (fieldName) {
    case "email":
      return `${unique.toLowerCase()}@explorer.example`;
    case "slug":
      return `explorer-${unique.toLowerCase()}`;
    case "asin":
      return `EX${unique}`;
    case "body":
      return "Written in the explorer";
    default:
      return `A ${toWords(subject)} from the explorer`;
  }
}

function sampleId(type: string | undefined, rows: SampleRows): unknown {
  return (type && rows[type]?.id) ?? `no ${type ? toWords(type) : "object"} is visible to this user`;
}

/** Returns the type of the row to which an ID field refers: the type or the relation that has the field's name. */
function referencedType(schema: GraphQLSchema, fieldName: string, subject: string): string | undefined {
  const baseName = fieldName.replace(/Ids?$/, "");
  if (fieldName === "id" || baseName === "id") return subject;
  const sameName = schema.getType(capitalize(baseName));
  if (sameName && isRowType(sameName)) return sameName.name;
  const subjectType = schema.getType(subject);
  const relation = subjectType && isObjectType(subjectType) ? subjectType.getFields()[baseName] : undefined;
  const relatedType = relation && getNamedType(relation.type);
  if (!relatedType) return undefined;
  return isAbstractType(relatedType) ? schema.getPossibleTypes(relatedType)[0]?.name : relatedType.name;
}

/**
 * Returns a value for an input object: its required fields. An input that changes a row also gets the row's current
 * values, so that the reader edits them instead of looking up field names.
 */
function sampleInput(
  schema: GraphQLSchema,
  fields: Record<string, GraphQLInputField>,
  rows: SampleRows,
  subject: string,
  changesRow: boolean,
): Record<string, unknown> {
  const row = rows[subject];
  const entries = Object.values(fields).flatMap((field) => {
    if (changesRow && field.name === "ifVersion" && row?.version !== undefined) return [[field.name, row.version]];
    const current = changesRow && field.name !== "id" ? row?.[field.name] : undefined;
    if (current !== undefined && current !== null) return [[field.name, current]];
    // An optional list of objects, such as the lines of an invoice, makes a more useful example.
    const isObjectList = !changesRow && isListType(getNullableType(field.type)) && isInputObjectType(getNamedType(field.type));
    return isRequiredInputField(field) || isObjectList ? [[field.name, sampleValue(schema, field.name, field.type, rows, subject)]] : [];
  });
  return Object.fromEntries(entries) as Record<string, unknown>;
}

/** Returns every type to which the ID fields of an input refer. */
function referencedTypes(
  schema: GraphQLSchema,
  fields: Record<string, GraphQLInputField>,
  subject: string,
  visited = new Set<string>(),
): string[] {
  return Object.values(fields).flatMap((field) => {
    const fieldType = getNamedType(field.type);
    if (fieldType.name === "ID") return [referencedType(schema, field.name, subject) ?? []].flat();
    if (!isInputObjectType(fieldType) || visited.has(fieldType.name)) return [];
    return referencedTypes(schema, fieldType.getFields(), subject, visited.add(fieldType.name));
  });
}

/** Returns a filter that matches at least the given row. */
function sampleFilter(filter: GraphQLNamedType, row: Row | undefined): Record<string, unknown> {
  if (!isInputObjectType(filter)) return {};
  const fields = Object.values(filter.getFields());
  const operators = (field: GraphQLInputField) => {
    const fieldType = getNamedType(field.type);
    return isInputObjectType(fieldType) && fieldType !== filter ? fieldType.getFields() : undefined;
  };
  for (const field of fields) {
    const inOperator = operators(field)?.in;
    const value = row?.[field.name];
    if (inOperator && value && isEnumType(getNamedType(inOperator.type))) return { [field.name]: { in: [value] } };
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

function sampleOrder(type: GraphQLNamedType): unknown[] {
  if (!isInputObjectType(type)) return [];
  const { field } = type.getFields();
  const fieldEnum = field && getNamedType(field.type);
  if (!fieldEnum || !isEnumType(fieldEnum)) return [];
  const names = fieldEnum.getValues().map(({ name }) => name);
  const best = ["NAME", "TITLE", "OCCURRED_AT", "CREATED_AT"].find((name) => names.includes(name)) ?? names[0];
  return [{ field: best, direction: "ASC" }];
}

/** The examples for a field of `Query` that returns a row by its ID, or a list of rows. */
function queryExamples(field: OutputField): Example[] {
  const type = getNamedType(field.type);
  const args = Object.fromEntries(field.args.map((arg) => [arg.name, arg]));
  if (isRowType(type) && args.id) {
    const noun = toWords(type.name);
    const variables = (rows: SampleRows) => ({ id: sampleId(type.name, rows) });
    const requiredRows = { [type.name]: undefined };
    return [
      {
        title: `One ${noun} by ID`,
        kind: "query",
        document: formatDocument(
          `One ${noun} by its ID.`,
          `query ${type.name}ById($id: ID!) { ${field.name}(id: $id) { ${scalarSelections(type).join(" ")} } }`,
        ),
        requiredRows,
        variables,
      },
      {
        title: `One ${noun} through node`,
        kind: "query",
        document: formatDocument(
          "Any row by its ID: `node` finds rows of every type.",
          `query ${type.name}AsNode($id: ID!) { node(id: $id) { __typename id ... on ${type.name} { ${labelSelection(type)} } } }`,
        ),
        requiredRows,
        variables,
      },
    ];
  }
  const rowType = nodeType(type);
  if (!rowType || !args.first) return [];
  const nouns = toWords(capitalize(field.name));
  const listArguments = ["filter", "orderBy"].filter((name) => args[name]);
  const declared = listArguments.map((name) => `, $${name}: ${String(args[name]!.type)}`).join("");
  const passed = listArguments.map((name) => `, ${name}: $${name}`).join("");
  return [
    {
      title: `A page of ${nouns}, filtered and ordered`,
      kind: "query",
      document: formatDocument(
        "One page. For the next page, put pageInfo.endCursor into $after.",
        `query ${capitalize(field.name)}Page($first: Int = 10, $after: String${declared}) {
          ${field.name}(first: $first, after: $after${passed}) {
            totalCount nodes { ${scalarSelections(rowType).join(" ")} } pageInfo { hasNextPage endCursor } } }`,
      ),
      requiredRows: { [rowType.name]: undefined },
      variables: (rows) => ({
        first: 10,
        after: null,
        ...(args.filter && { filter: sampleFilter(getNamedType(args.filter.type), rows[rowType.name]) }),
        ...(args.orderBy && { orderBy: sampleOrder(getNamedType(args.orderBy.type)) }),
      }),
    },
    {
      title: `${capitalize(nouns)} ${RELATIONS_TITLE}`,
      kind: "query",
      document: formatDocument(
        `A page of ${nouns} with their relations. The number of rows does not matter: each relation takes one statement.`,
        `query ${capitalize(field.name)}WithRelations($first: Int = 5) {
          ${field.name}(first: $first) { totalCount nodes { ${relationsSelection(rowType)} } pageInfo { hasNextPage endCursor } } }`,
      ),
      requiredRows: {},
      variables: () => ({ first: 5 }),
    },
  ];
}

/** The example for a field of `Query` without arguments, such as `viewer` and `currencies`. */
function examplesWithoutArguments(field: OutputField): Example[] {
  const type = getNamedType(field.type);
  if (field.args.length || !isObjectType(type)) return [];
  const selections = fieldsOf(type).flatMap((inner) => {
    const innerType = getNamedType(inner.type);
    if (requiresArguments(inner) || nodeType(innerType)) return [];
    if (isLeafType(innerType)) return [inner.name];
    const isValue = isObjectType(innerType) && !isRowType(innerType);
    return [`${inner.name} { ${isValue ? payloadSelection(innerType) : labelSelection(innerType)} }`];
  });
  const title = capitalize(toWords(capitalize(field.name)));
  return [
    {
      title,
      kind: "query",
      document: formatDocument(
        firstSentence(field.description) ?? title,
        `query ${capitalize(field.name)} { ${field.name} { ${selections.join(" ")} } }`,
      ),
      requiredRows: {},
      variables: () => ({}),
    },
  ];
}

function firstSentence(description: string | null | undefined): string | undefined {
  return description?.replaceAll(/\s+/g, " ").match(/^.*?[.;:](?= |$)/)?.[0]?.replace(/[;:]$/, ".");
}

/** Returns the type of row that a mutation changes: the longest type name that the mutation's name contains. */
function mutationSubject(field: OutputField, rowTypes: GraphQLObjectType[]): string | undefined {
  const candidates = rowTypes.filter(({ name }) => field.name.includes(name));
  return candidates.sort((a, b) => b.name.length - a.name.length)[0]?.name;
}

function mutationExample(schema: GraphQLSchema, field: OutputField, subject: string): Example {
  const declared = field.args.map((arg) => `$${arg.name}: ${String(arg.type)}`).join(", ");
  const passed = field.args.map((arg) => `${arg.name}: $${arg.name}`).join(", ");
  const changesRow = !/^(create|import|invite|add)/.test(field.name);
  const requiredStatus = REQUIRED_STATUS.find(([mutations]) => mutations.test(field.name))?.[1];
  const types = field.args.flatMap((arg) => {
    const argType = getNamedType(arg.type);
    return isInputObjectType(argType) ? referencedTypes(schema, argType.getFields(), subject) : [];
  });
  return {
    title: capitalize(toWords(capitalize(field.name))),
    kind: "mutation",
    document: formatDocument(
      firstSentence(field.description) ?? field.name,
      `mutation ${capitalize(field.name)}(${declared}) { ${field.name}(${passed}) { ${payloadSelection(getNamedType(field.type))} } }`,
    ),
    requiredRows: Object.fromEntries(
      [...types, ...(changesRow ? [subject] : [])].map((type) => [type, field.name.includes(type) ? requiredStatus : undefined]),
    ),
    variables: (rows) =>
      Object.fromEntries(
        field.args.map((arg) => {
          const argType = getNamedType(arg.type);
          const value = isInputObjectType(argType)
            ? sampleInput(schema, argType.getFields(), rows, subject, changesRow)
            : sampleValue(schema, arg.name, arg.type, rows, subject);
          return [arg.name, value];
        }),
      ),
  };
}

/** Generates all examples: first a group of the most useful ones, then a group for each row type. */
export function createExamples(schema: GraphQLSchema): ExampleGroup[] {
  const queries = schema.getQueryType();
  if (!queries) return [];
  const mutations = schema.getMutationType();
  const rowTypes = Object.values(schema.getTypeMap()).filter(isRowType);
  const byType = new Map<string, Example[]>();
  const add = (type: string, examples: Example[]) => byType.set(type, [...(byType.get(type) ?? []), ...examples]);

  for (const field of fieldsOf(queries)) {
    const type = getNamedType(field.type);
    const rowType = nodeType(type) ?? type;
    if (isRowType(rowType) && field.args.length) add(rowType.name, queryExamples(field));
  }
  for (const field of mutations ? fieldsOf(mutations) : []) {
    const subject = mutationSubject(field, rowTypes);
    if (subject) add(subject, [mutationExample(schema, field, subject)]);
  }

  const groups = [...byType.keys()]
    .sort()
    .map((type) => ({ name: capitalize(toWords(type)), examples: byType.get(type) ?? [] }));
  const headline = byType.get(HEADLINE_TYPE) ?? groups[0]?.examples ?? [];
  const first = [
    ...headline.filter(({ title }) => title.endsWith(RELATIONS_TITLE)),
    ...fieldsOf(queries).flatMap(examplesWithoutArguments),
  ];
  return [{ name: "Start here", examples: first }, ...groups];
}

/** The suffix of the alias under which {@link sampleRowsQuery} asks for rows with the required status. */
const WITH_STATUS = "_withStatus";

/** Returns the operation that fetches the rows for an example, or undefined if it needs none. */
export function sampleRowsQuery(schema: GraphQLSchema, requiredRows: RequiredRows): string | undefined {
  const queries = schema.getQueryType();
  const fields = queries ? fieldsOf(queries) : [];
  const selections = Object.entries(requiredRows).flatMap(([name, status]) => {
    const type = schema.getType(name);
    if (!type || !isObjectType(type)) return [];
    const leafFields = fieldsOf(type).filter((field) => !requiresArguments(field) && isLeafType(getNamedType(field.type)));
    const leaves = leafFields.map(({ name }) => name).join(" ");
    const list = fields.find((field) => nodeType(getNamedType(field.type)) === type);
    if (list) {
      const anyStatus = `${name}: ${list.name}(first: 20) { nodes { ${leaves} } }`;
      const filter = `(first: 1, filter: { status: { eq: ${status} } })`;
      return status ? [anyStatus, `${name}${WITH_STATUS}: ${list.name}${filter} { nodes { ${leaves} } }`] : [anyStatus];
    }
    const single = fields.find((field) => getNamedType(field.type) === type && !field.args.length);
    return single ? [`${name}: ${single.name} { ${leaves} }`] : [];
  });
  return selections.length ? `query ExplorerRows { ${selections.join(" ")} }` : undefined;
}

/**
 * Picks a row of each type from the response to {@link sampleRowsQuery}: if possible one with the required status that
 * the viewer can edit and delete.
 */
export function readSampleRows(data: Record<string, unknown> | null | undefined): SampleRows {
  const rows: SampleRows = {};
  for (const [alias, result] of Object.entries(data ?? {})) {
    if (!result) continue;
    const nodes = (result as { nodes?: Row[] }).nodes ?? [result as Row];
    const row = nodes.find((node) => node.viewerCanEdit && node.viewerCanDelete) ?? nodes[0];
    // The alias with the status is later in the response, so its row replaces the row with any status.
    if (row) rows[alias.replace(WITH_STATUS, "")] = row;
  }
  return rows;
}
