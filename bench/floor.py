"""The floor: PostgreSQL runs the statements of a document alone, without a service.

pgbench sends the service's statements, with the columns that the document selects, as palisade_app and so under row
level security. It pipelines statements that do not depend on each other. No service that sends these statements can be
faster.
"""

import re
import subprocess

import lab

# pgbench prepares the statements of each script on each connection, so only a few tenants have a script.
TENANTS = 4
READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
LATERAL = """
select {outer}, "parent"."parent" from unnest(cast(:projects as uuid[])) as "parent" inner join lateral (
    select {inner} from {table} where "tenant_id" = :tenant and "project_id" = "parent"."parent"
    order by {order} desc, "id" desc limit :{limit}) as "row" on true;"""
# The flights of each document. A flight is a list of statements that are sent together.
FLIGHTS = {
    "q1": [["""select "id", "name", "status" from "projects" where "tenant_id" = :tenant and "id" = any(array(select unnest(:project::uuid[])));"""]],
    "q2": [["""select "id", "name", "status" from "projects" where "tenant_id" = :tenant
               order by "created_at" desc, "id" desc limit :twenty;"""]],
    "q3": [
        ["""select "id", "name", "status", "organization_id", "owner_id" from "projects" where "tenant_id" = :tenant
            order by "created_at" desc, "id" desc limit :twenty;"""],
        ["""select "id", "name" from "organizations" where "tenant_id" = :tenant and "id" = any(array(select unnest(:organizations::uuid[])));""",
         """select "id", "email", "display_name" from "users" where "tenant_id" = :tenant and "id" = any(array(select unnest(:owners::uuid[])));""",
         LATERAL.format(
             outer='"row"."id", "row"."number", "row"."status", "row"."total_minor", "row"."currency"',
             inner='"id", "number", "status", "total_minor", "currency"', table='"invoices"', order='"created_at"',
             limit="five"),
         LATERAL.format(outer='"row"."id", "row"."action", "row"."occurred_at", "row"."actor_id"',
                        inner='"id", "action", "occurred_at", "actor_id"', table='"audit_logs"', order='"occurred_at"',
                        limit="ten")],
        ["""select "id", "email" from "users" where "tenant_id" = :tenant and "id" = any(array(select unnest(:actors::uuid[])));"""],
    ],
    "m1": [["""select pg_advisory_xact_lock_shared(hashtextextended('palisade writes ' || :tenant, 0));""",
            """insert into "projects" ("organization_id", "owner_id", "name", "description", "status", "due_on", "id",
                                       "tenant_id")
               values (:organization, :owner, 'Measured project', 'Created by the benchmark.', 'ACTIVE', '2026-12-31',
                       gen_random_uuid(), :tenant) returning "id", "name", "status";"""]],
}
NUMBERS = {"five": 5, "ten": 10, "twenty": 20}
# The query for a tenant's values of the variables.
VALUES = """
with page as (select * from projects where tenant_id = '{tenant}' order by created_at desc, id desc limit 20)
select (select array_agg(id) from page),
       (select array_agg(distinct organization_id) from page),
       (select array_agg(distinct owner_id) from page),
       (select array_agg(distinct actor_id)
          from page join lateral (select actor_id from audit_logs
                                   where tenant_id = page.tenant_id and project_id = page.id
                                   order by occurred_at desc, id desc limit 10) as entry on true
         where actor_id not in (select owner_id from page))"""


class Floor:
    """The scripts and variables for pgbench."""

    def __init__(self, environment, tenants, role="app"):
        self.url = environment[f"PALISADE_{role.upper()}_DATABASE_URL"]
        self.contexts = lab.Contexts(environment)
        self.tenants = tenants[:TENANTS]
        self.variables = dict(NUMBERS)
        for number, tenant in enumerate(self.tenants):
            rows = lab.query(environment["PALISADE_ADMIN_DATABASE_URL"], VALUES.format(tenant=tenant.id))
            projects, organizations, owners, actors = rows[0]
            values = {"tenant": tenant.id, "projects": projects, "organizations": organizations, "owners": owners,
                      "actors": actors or "{}", "project": f"{{{first(projects)}}}",
                      "organization": first(organizations), "owner": tenant.user}
            self.variables |= {f"{name}{number}": value for name, value in values.items()}

    def run(self, document, connections, seconds):
        """Runs pgbench. Returns the number of transactions per second."""
        directory = lab.BENCH_DIR / "floor"
        directory.mkdir(exist_ok=True)
        files = []
        for number, tenant in enumerate(self.tenants):
            path = directory / f"{document}-{number}.sql"
            path.write_text(script(document, number, self.contexts.of_owner(tenant, "w" if document == "m1" else "r")))
            files.append(f"--file={path}")
        definitions = [f"--define={name}={value}" for name, value in self.variables.items()]
        command = ["pgbench", "--no-vacuum", "--protocol=prepared", f"--client={connections}", "--jobs=1",
                   f"--time={seconds}", *files, *definitions, self.url]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return float(re.search(r"tps = ([0-9.]+)", out)[1])


def first(array):
    """Returns the first element of an array of PostgreSQL."""
    return array.strip("{}").split(",")[0]


def script(document, number, context):
    """Returns a script of pgbench that runs a document in a context."""
    settings = {"application_name": "floor", "app.context": context}
    begin = [f"{WRITE if document == 'm1' else READ};",
             *(f"set local {name} = '{value}';" for name, value in settings.items())]
    flights = [list(flight) for flight in FLIGHTS[document]]
    flights[0] = begin + flights[0]
    flights[-1] = flights[-1] + ["commit;" if document == "m1" else "rollback;"]
    lines = []
    for flight in flights:
        lines += ["\\startpipeline", *flight, "\\endpipeline"]
    text = "\n".join(lines) + "\n"
    return re.sub(r"(?<!:):([a-z]+)", lambda match: f":{match[1]}{'' if match[1] in NUMBERS else number}", text)
