// Compares schema.graphql with the last release's; fails on what breaks clients without warning.
import { readFileSync } from "node:fs";

import { buildSchema } from "graphql";

import { changes, violations } from "./contract.mjs";
import { lint } from "./lint.mjs";

const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");
const released = buildSchema(read("released.graphql"));
const present = buildSchema(read("../../schema.graphql"));

const all = await changes(released, present);
const of = (level) => all.filter((change) => change.level === level);
for (const level of ["BREAKING", "DANGEROUS"])
  for (const { name, message } of of(level)) console.log(`${level.toLowerCase()} ${name}: ${message}`);

const wrong = [
  ...lint(present),
  ...(await violations(released, present, JSON.parse(read("accepted.json")), read("../../CHANGELOG.md"))),
];
for (const one of wrong) console.error(`REFUSED ${one}`);
console.log(
  `since the last release: ${of("BREAKING").length} breaking, ${of("DANGEROUS").length} dangerous, ` +
    `${of("NON_BREAKING").length} other changes; ${wrong.length} refused`,
);
process.exitCode = wrong.length ? 1 : 0;
