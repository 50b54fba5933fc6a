// Sends each case to the service and to graphql-js. Both must accept or reject the document, as the case expects, and
// graphql-js must reject it because of the rule that the case belongs to. If both name positions in the document, they
// must have a line in common.
import { readFileSync } from "node:fs";

import { buildSchema, GraphQLError, parse, specifiedRules, validate } from "graphql";

import { CASES } from "./cases.mjs";
import { DIFFERENCES } from "./differences.mjs";

const MIN_CASES_OF_A_RULE = 8;

const schema = buildSchema(readFileSync(new URL("../../schema.graphql", import.meta.url), "utf8"));
const rules = Object.fromEntries(specifiedRules.map((rule) => [rule.name.replace(/Rule$/, ""), rule]));
const { PALISADE_GRAPHQL_URL: url, PALISADE_TOKEN_A: token } = process.env;

const linesOf = (errors) => new Set(errors.flatMap(({ locations }) => locations ?? []).map(({ line }) => line));

/** The result of graphql-js: whether it accepts the document, the rules that reject it, and the lines of the errors. */
function reference(document) {
  let parsed;
  try {
    parsed = parse(document);
  } catch (error) {
    if (!(error instanceof GraphQLError)) throw error;
    return { accepts: false, rejectedBy: ["Syntax"], lines: linesOf([error]) };
  }
  const errors = validate(schema, parsed, specifiedRules, { maxErrors: 1000 });
  const rejectedBy = Object.keys(rules).filter((name) => validate(schema, parsed, [rules[name]]).length > 0);
  return { accepts: errors.length === 0, rejectedBy, lines: linesOf(errors) };
}

/** The result of the service. The document is validated before its variables, which are not sent. */
async function service(document) {
  const response = await fetch(url, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json", prefer: "tx=rollback" },
    body: JSON.stringify({ query: document, operationName: /\b(?:query|mutation) (\w+)/.exec(document)?.[1] }),
  });
  const { errors = [] } = await response.json();
  const codes = errors.map(({ extensions }) => extensions.code);
  const invalid = errors.filter((_, index) => /^(GRAPHQL_(PARSE|VALIDATION)_FAILED|QUERY_TOO_COMPLEX)$/.test(codes[index]));
  const isParsed = !codes.includes("GRAPHQL_PARSE_FAILED");
  const unclear = codes.filter((code) => !/^(GRAPHQL_\w+|QUERY_TOO_COMPLEX|BAD_USER_INPUT)$/.test(code));
  return {
    accepts: invalid.length === 0,
    lines: isParsed ? linesOf(invalid) : new Set(),
    unclear,
    messages: errors.map(({ message }) => message),
  };
}

const failures = [];
const used = new Set();
let compared = 0;
for (const [rule, { valid, invalid }] of Object.entries(CASES)) {
  const cases = [...valid.map((one) => [...one, true]), ...invalid.map((one) => [...one, false])];
  if (cases.length < MIN_CASES_OF_A_RULE || !valid.length || !invalid.length)
    failures.push(`${rule}: ${valid.length} valid and ${invalid.length} invalid cases are too few`);
  const names = cases.map(([name]) => name);
  if (new Set(names).size !== names.length) failures.push(`${rule}: two cases have the same name`);
  for (const [name, document, isValid] of cases) {
    const shown = `${rule}: ${name}`;
    const difference = DIFFERENCES[shown];
    if (difference) used.add(shown);
    const theirs = reference(document);
    const ours = await service(document);
    compared += 1;
    const expected = difference?.graphqlJs ?? isValid;
    if (theirs.accepts !== expected)
      failures.push(`${shown}: graphql-js ${theirs.accepts ? "accepts" : `rejects (${theirs.rejectedBy})`} it`);
    else if (!expected && rules[rule] && !theirs.rejectedBy.some((one) => one === rule || one === "Syntax"))
      failures.push(`${shown}: graphql-js rejects it by another rule: ${theirs.rejectedBy}`);
    if (ours.unclear.length) failures.push(`${shown}: the service responds with ${ours.unclear}`);
    if (ours.accepts !== isValid)
      failures.push(`${shown}: the service ${ours.accepts ? "accepts" : "rejects"} it: ${ours.messages.join("; ")}`);
    if (!ours.accepts && theirs.lines.size && ours.lines.size && ![...ours.lines].some((line) => theirs.lines.has(line)))
      failures.push(`${shown}: lines ${[...ours.lines]} and, by graphql-js, ${[...theirs.lines]}`);
  }
}
for (const name of Object.keys(rules)) if (!CASES[name]) failures.push(`${name}: there are no cases`);
for (const name of Object.keys(DIFFERENCES)) if (!used.has(name)) failures.push(`${name}: there is no such case`);

for (const failure of failures) console.error(`ERROR ${failure}`);
const differences = Object.keys(DIFFERENCES).length;
console.log(`${compared} documents of ${Object.keys(CASES).length} rules: ${differences} deliberate differences, ${failures.length} errors`);
process.exitCode = failures.length ? 1 : 0;
