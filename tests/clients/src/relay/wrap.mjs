// Gives the scenario's operations to the Relay compiler, which reads them only from tags in source files.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

import { parse, print } from "graphql";

for (const made of ["relay", "artifacts"]) mkdirSync(`generated/${made}`, { recursive: true });
const { definitions } = parse(readFileSync("documents/scenario.graphql", "utf8"));
const tagged = definitions.map((definition) => `graphql\`\n${print(definition)}\n\`;\n`);
writeFileSync("generated/relay/Scenario.ts", tagged.join("\n"));
