// Serves the same database as `palisade serve` with PostGraphile, and accepts the same tokens. There is one process per
// core, and each has a pool of POOL_SIZE connections.
//
// PostGraphile connects as palisade_app, so the same policies of row level security apply. Each transaction sets the
// same settings. Two decisions are in PostGraphile's favor: lists are plain lists instead of connections, and the role
// of the user is a constant, while Palisade reads the role from the database and caches it.

import cluster from "node:cluster";
import { createHash, createHmac } from "node:crypto";
import { createServer } from "node:http";
import { availableParallelism } from "node:os";
import jwt from "jsonwebtoken";
import { grafserv } from "postgraphile/grafserv/node";
import { postgraphile } from "postgraphile";
import { makePgService } from "postgraphile/adaptors/pg";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { makePgSmartTagsPlugin } from "postgraphile/utils";

const { DATABASE_URL, PALISADE_CONTEXT_KEY, PALISADE_JWT_SECRET, PORT, POOL_SIZE } = process.env;
const CONTEXT_KEY = Buffer.from(PALISADE_CONTEXT_KEY, "hex");
const KEY_ID = createHash("sha256").update("palisade context key id:").update(CONTEXT_KEY).digest("hex").slice(0, 2);

// PostGraphile finds relations by foreign keys. Audit log entries have none, because they outlive the rows they name.
const auditLogRelations = makePgSmartTagsPlugin({
  kind: "class",
  match: "audit_logs",
  tags: {
    foreignKey: [
      "(tenant_id, project_id) references projects (tenant_id, id)|@foreignSimpleFieldName auditLogs",
      "(tenant_id, actor_id) references users (tenant_id, id)|@fieldName actor|@behavior -list -connection",
    ],
  },
});

const preset = {
  extends: [PostGraphileAmberPreset],
  plugins: [auditLogRelations],
  // It hides a relation whose foreign key has no index over all rows. Palisade's indexes on nullable keys are partial.
  disablePlugins: ["PgIndexBehaviorsPlugin"],
  pgServices: [
    makePgService({
      connectionString: DATABASE_URL,
      schemas: ["public"],
      poolConfig: { max: Number(POOL_SIZE) },
    }),
  ],
  schema: {
    defaultBehavior: "+list -connection",
  },
  grafast: {
    explain: false,
    context: ({ node }) => ({ pgSettings: settings(node.req) }),
  },
  grafserv: {
    graphqlPath: "/graphql",
    graphiql: false,
    watch: false,
  },
};

function settings(request) {
  const token = request.headers.authorization?.replace(/^Bearer /, "") ?? "";
  const claims = jwt.verify(token, PALISADE_JWT_SECRET, {
    algorithms: ["HS256"],
    audience: "palisade",
    issuer: "palisade",
  });
  return { "app.context": context(claims) };
}

// The signed context of an owner, as src/db/context.rs writes it.
function context(claims) {
  const ids = [claims.tenant_id, claims.sub].map((id) => id.replaceAll("-", "")).join("");
  const message = `01${KEY_ID}${Date.now().toString().padStart(13, "0")}${ids}Ow${"0".repeat(32)}`;
  return message + createHmac("sha256", CONTEXT_KEY).update(message).digest("hex");
}

if (cluster.isPrimary) {
  for (let core = 0; core < availableParallelism(); core += 1) cluster.fork();
  process.on("SIGTERM", () => {
    for (const worker of Object.values(cluster.workers)) worker.process.kill();
    process.exit();
  });
  cluster.on("exit", () => process.exit(1));
} else {
  const server = createServer();
  await postgraphile(preset).createServ(grafserv).addTo(server);
  server.listen(Number(PORT), "127.0.0.1");
}
