#!/usr/bin/env python3
"""Measures how the cost of a request grows with the data.

    cargo build --release
    bench/growth.py [--seconds 2] [--rounds 3] [--write-docs]

Needs wrk and psql. Starts a private PostgreSQL with two databases, of 200 and of 20,000 tenants. In both, one tenant
has 100 projects and another one has 200,000. The data is created once, which takes some minutes and 7 GB. Measures
each document for both tenants in both databases, and the first and the 1,000th page of lists, with 8 connections.

The cost of a document is the CPU time of the service and of PostgreSQL per request, in microseconds. The growth is the
highest cost divided by the cost for the small tenant in the small database. Takes about 6 minutes if the data exists.
"""

import argparse
import contextlib
import json
import os
import subprocess

import lab
import slices
from usage import postmaster_pid

DATA_DIR = lab.BENCH_DIR / "growth"
TENANTS = (200, 20_000)
# The number (in the slug) of each measured tenant, and how many projects it has.
SMALL, LARGE = (1, 100), (2, 200_000)
# The number of invoices and of audit log entries per project: for the measured tenants, and for the others.
ROWS, ROWS_OF_OTHERS = (5, 10), (2, 4)
PROJECTS_OF_OTHERS = 10
CONNECTIONS = 8
FIELDS = "nodes { id name status }"


def page(arguments):
    """Returns a document that reads the first 20 projects of a list."""
    return f"{{ projects(first: 20, {arguments}) {{ {FIELDS} }} }}"


DOCUMENTS = {
    "Q1": None,
    "Q3": None,
    "page filtered by status": page("filter: { status: { eq: ACTIVE } }"),
    # This filter matches the oldest 20 projects.
    "page filtered by `startsWith`": page('filter: { name: { startsWith: "Office" } }'),
    "page in the order `UPDATED_AT`": page("orderBy: { field: UPDATED_AT }"),
    "page in the order `DUE_ON`": page("orderBy: { field: DUE_ON }"),
    "count (stops at 10,000)": "{ projects(first: 1) { totalCount } }",
    "count filtered by status": "{ projects(first: 1, filter: { status: { eq: ACTIVE } }) { totalCount } }",
}
PAGES = {
    "default order": "",
    "order `NAME`": ", orderBy: { field: NAME }",
}
PAGE_SIZE, PAGE = 20, 1_000


def main():
    options = arguments()
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(lab.dev_database(DATA_DIR))
        urls = {tenants: create_database(environment, tenants) for tenants in TENANTS}
        servers = {tenants: stack.enter_context(start_service(environment, url)) for tenants, url in urls.items()}
        bench = slices.Slices(options, postmaster_pid(DATA_DIR), list(servers.values()))
        tenants = {projects: load_tenant(environment, urls[TENANTS[0]], number) for number, projects in (SMALL, LARGE)}
        growth = {name: bench.alternate(name, runs(bench, servers, tenants, name)) for name in progress(DOCUMENTS)}
        tenant, server = tenants[LARGE[1]], servers[TENANTS[1]]
        pages = {name: bench.alternate(name, page_runs(bench, server, tenant, name)) for name in progress(PAGES)}
    text = f"{growth_table(growth)}\n\n{page_table(pages)}\n{bench.warning()}"
    print(text)
    if options.write_docs:
        lab.write_docs("growth", f"Measured on {lab.provenance()}, slices of {options.seconds} s, the median of "
                                 f"{options.rounds}:\n\n{text}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    slices.add_arguments(parser)
    return parser.parse_args()


def progress(names):
    for name in names:
        print(f"measuring: {name}", flush=True)
        yield name


def create_database(environment, tenants):
    """Creates a database with this many tenants, unless it exists. Returns its URL for palisade_app."""
    def url(role, database):
        app_url = environment["PALISADE_APP_DATABASE_URL"]
        return app_url.replace("palisade_app@", f"{role}@").replace("/palisade?", f"/{database}?")

    name = f"growth_{tenants}"
    if not lab.query(url("postgres", "postgres"), f"select 1 from pg_database where datname = '{name}'"):
        print(f"creating the database with {tenants:,} tenants", flush=True)
        # The database has a temporary name until it is complete.
        draft = f"{name}_draft"
        smaller = f"growth_{TENANTS[0]}" if tenants != TENANTS[0] else "template0"
        lab.query(url("postgres", "postgres"), f"drop database if exists {draft}")
        lab.query(url("postgres", "postgres"), f"create database {draft} owner palisade_owner template {smaller}")
        migrate(url("postgres", draft))
        first = TENANTS[0] + 1
        if tenants == TENANTS[0]:
            for number, projects in (SMALL, LARGE):
                add_tenants(url("postgres", draft), number, number, projects, *ROWS)
            first = 3
        add_tenants(url("postgres", draft), first, tenants, PROJECTS_OF_OTHERS, *ROWS_OF_OTHERS)
        lab.query(url("postgres", "postgres"), f"alter database {draft} rename to {name}")
    # An existing database may lack migrations of the binary.
    migrate(url("postgres", name))
    lab.query(url("postgres", name), "vacuum analyze")
    return url("palisade_app", name)


def migrate(url):
    subprocess.run([lab.BINARY, "migrate"], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "PALISADE_OWNER_DATABASE_URL": url})


def add_tenants(url, first, last, projects, invoices, audit_logs):
    names = ("first", "last", "projects", "invoices", "audit_logs")
    settings = dict(zip(names, (first, last, projects, invoices, audit_logs)))
    lab.query(url, (lab.ROOT / "bench/growth.sql").read_text(), settings)


def start_service(environment, url):
    token = load_tenant(environment, url, SMALL[0]).token
    environment = {**environment, "PALISADE_APP_DATABASE_URL": url, "PALISADE_TOKEN_A": token}
    return lab.service(environment, "--tenant-budget", "0")


def load_tenant(environment, url, number):
    slug = f"growth-{number}"
    rows = lab.query(url.replace("palisade_app@", "palisade_admin@"), f"""
        select tenants.id, users.id from tenants join users on users.tenant_id = tenants.id and users.role = 'OWNER'
         where tenants.slug = '{slug}'""")
    return lab.Tenant(slug, *rows[0], lab.create_token(environment["PALISADE_JWT_SECRET"], *rows[0]))


def runs(bench, servers, tenants, name):
    """Returns a run of a document for each database and tenant."""
    cases = [(count, projects) for count in servers for projects in tenants]
    files = {(count, projects): prepare(servers[count], tenants[projects], name, f"growth-{count}-{projects}")
             for count, projects in cases}
    return {case: bench.wrk(servers[case[0]], path, CONNECTIONS) for case, path in files.items()}


def prepare(server, tenant, name, file_name):
    if name == "Q1":
        # Use many projects. One project would mean that PostgreSQL always reads the same page of the table.
        projects = json.loads(execute(server, tenant, "{ projects(first: 100) { nodes { id } } }"))["data"]["projects"]
        text = (lab.DOCUMENTS_DIR / "q1.graphql").read_text().strip()
        bodies = [json.dumps({"query": text, "variables": project}) for project in projects["nodes"]]
    elif name == "Q3":
        bodies = [lab.request_body(server, "q3", tenant)]
    else:
        bodies = [json.dumps({"query": DOCUMENTS[name]})]
    return write(server, tenant, bodies, file_name)


def write(server, tenant, bodies, file_name):
    responses = [server.execute(tenant.token, body) for body in bodies]
    for response in responses:
        assert b'"errors"' not in response, response
    lines = [line for body in bodies for line in (tenant.token, body)]
    return lab.write_requests(file_name, "query", lines, responses)


def execute(server, tenant, text):
    return server.execute(tenant.token, json.dumps({"query": text}))


def page_runs(bench, server, tenant, name):
    """Returns one run for the first page of a list and one for a later page."""
    cursors = {1: "", PAGE: f', after: "{cursor_before(server, tenant, PAGES[name])}"'}
    return {page: bench.wrk(server, write(server, tenant, [json.dumps({
        "query": f"{{ projects(first: {PAGE_SIZE}{PAGES[name]}{cursor}) {{ {FIELDS} }} }}"})], f"growth-page-{page}"),
        CONNECTIONS) for page, cursor in cursors.items()}


def cursor_before(server, tenant, order):
    """Returns the cursor of the row before the later page. Reads the list up to there in pages of up to 100 rows."""
    rows, cursor = (PAGE - 1) * PAGE_SIZE, ""
    while rows:
        size = min(rows, 100)
        after = f', after: "{cursor}"' if cursor else ""
        text = f"{{ projects(first: {size}{order}{after}) {{ pageInfo {{ endCursor }} }} }}"
        response = execute(server, tenant, text)
        cursor = json.loads(response)["data"]["projects"]["pageInfo"]["endCursor"]
        rows -= size
    return cursor


def cost(measured):
    return measured.service_us + measured.postgres_us


def growth_table(results):
    cases = [(tenants, projects) for tenants in TENANTS for _, projects in (SMALL, LARGE)]
    head = " | ".join(f"{projects:,} projects, {tenants:,} tenants" for tenants, projects in cases)
    rows = [f"| cost in us: service + PostgreSQL | {head} | growth |", "|---" * (len(cases) + 2) + "|"]
    for name, cells in results.items():
        costs = " | ".join(f"{cells[case].service_us:,.0f} + {cells[case].postgres_us:,.0f}" for case in cases)
        growth = max(map(cost, cells.values())) / cost(cells[cases[0]])
        rows.append(f"| {name} | {costs} | {growth:.1f} |")
    return "\n".join(rows)


def page_table(results):
    rows = [f"| a list of {LARGE[1]:,} projects, {TENANTS[1]:,} tenants | page 1 | page {PAGE:,} | growth |",
            "|---|---|---|---|"]
    for name, cells in results.items():
        costs = " | ".join(f"{measured.service_us:,.0f} + {measured.postgres_us:,.0f}" for measured in cells.values())
        rows.append(f"| {name} | {costs} | {cost(cells[PAGE]) / cost(cells[1]):.1f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
