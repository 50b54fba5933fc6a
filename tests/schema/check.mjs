// Compares schema.graphql with the schema of the last release. Fails if contract.mjs does not allow a change.
import { readFileSync } from "node:fs";

import { buildSchema } from "graphql";

import { changes, violations } from "./contract.mjs";
import { lint } from "./lint.mjs";

const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");
const released = buildSchema(read("released.graphql"));
const current = buildSchema(read("../../schema.graphql"));

const allChanges = await changes(released, current);
const withLevel = (level) => allChanges.filter((change) => change.level === level);
for (const level of ["BREAKING", "DANGEROUS"])
  for (const { name, message } of withLevel(level)) console.log(`${level.toLowerCase()} ${name}: ${message}`);

const errors = [
  ...lint(current),
  ...(await violations(released, current, JSON.parse(read("accepted.json")), read("../../CHANGELOG.md"))),
];
for (const error of errors) console.error(`ERROR ${error}`);
console.log(
  `since the last release: ${withLevel("BREAKING").length} breaking, ${withLevel("DANGEROUS").length} dangerous, ` +
    `${withLevel("NON_BREAKING").length} other changes; ${errors.length} errors`,
);
process.exitCode = errors.length ? 1 : 0;
