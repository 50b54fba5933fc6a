// Writes the scenario's operations into a source file with `graphql` tags: the Relay compiler reads no other files.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

import { parse, print } from "graphql";

for (const directory of ["relay", "artifacts"]) mkdirSync(`generated/${directory}`, { recursive: true });
const { definitions } = parse(readFileSync("documents/scenario.graphql", "utf8"));
const tagged = definitions.map((definition) => `graphql\`\n${print(definition)}\n\`;\n`);
writeFileSync("generated/relay/Scenario.ts", tagged.join("\n"));
