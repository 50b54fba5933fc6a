// PostGraphile over the same database and for the same tokens as `palisade serve`: one process per core, each with a
// pool of POOL_SIZE connections.
//
// It connects as palisade_app, so the same policies of row level security apply. It verifies the same tokens and sets
// the same settings per transaction. Two decisions are in its favor: lists are plain lists instead of connections,
// and the role of the user is a constant, which Palisade reads from the database and caches.

import cluster from "node:cluster";
import { createServer } from "node:http";
import { availableParallelism } from "node:os";
import jwt from "jsonwebtoken";
import { grafserv } from "postgraphile/grafserv/node";
import { postgraphile } from "postgraphile";
import { makePgService } from "postgraphile/adaptors/pg";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { makePgSmartTagsPlugin } from "postgraphile/utils";

const { DATABASE_URL, PALISADE_JWT_SECRET, PORT, POOL_SIZE } = process.env;

// Without foreign keys, PostGraphile does not know these relations: entries outlive the rows that they name.
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
  return { "app.tenant_id": claims.tenant_id, "app.user_id": claims.sub, "app.role": "OWNER" };
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
