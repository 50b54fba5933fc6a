#!/usr/bin/env python3
"""Compares the service with PostGraphile and with the floor: documents Q0 to Q3 and M1 at 1, 8, 32 and 256 connections.

    cargo build --release
    (cd bench/peers/postgraphile && npm ci)
    bench/run.py [--seconds 2] [--rounds 3] [--tenants 200] [--documents q1,q3] [--write-docs]

Needs wrk, psql, pgbench and Node 22 or newer, which `npm ci` installs on Linux. Starts a private PostgreSQL, creates
the data once, and starts `palisade serve` and PostGraphile on the same database. Checks one response of each tenant,
and that both servers return the same content for a sample of the tenants. The slices of the systems alternate. If other
processes use the machine during a slice, the slice is repeated. floor.py describes the floor.

Takes about 8 minutes. Prints tables. --write-docs also writes them into docs/performance.md, with a plot.
"""

import argparse
import contextlib
import dataclasses
import json
import os

import lab
import peer
import plot
import slices
from floor import Floor
from usage import peak_memory_mib, postmaster_pid

DOCUMENTS = ("q0", "q1", "q2", "q3", "m1")
CONNECTIONS = (1, 8, 32, 256)
# The numbers of connections at which the floor is measured. The service's pool has 8 connections.
FLOOR_CONNECTIONS = (1, 8)


def main():
    options = arguments()
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(lab.database(options.tenants))
        readers, writers = lab.load_tenants(environment, options.tenants)
        # Without a budget, no request is rejected. fairness.py measures the effect of the budget.
        service = stack.enter_context(lab.service(environment, "--tenant-budget", "0"))
        postgraphile = stack.enter_context(peer.postgraphile(environment))
        bench = slices.Slices(options, postmaster_pid(lab.BENCH_DIR / "dev"), [service, postgraphile])
        results = {document: measure(bench, document, writers if document == "m1" else readers, environment)
                   for document in options.documents}
        postgres = lab.query(environment["PALISADE_APP_DATABASE_URL"], "show server_version")[0][0].split()[0]
        memory = {server.name: peak_memory_mib(server.pid) for server in bench.servers}
    report = {"options": vars(options), "results": as_json(results), "memory": memory,
              "provenance": lab.provenance(), "noisy": bench.noisy}
    (lab.BENCH_DIR / "run.json").write_text(json.dumps(report, indent=2))
    text = report_text(results, memory) + bench.warning()
    print("\n" + text)
    if options.write_docs:
        write_docs(options, results, text, postgres)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    slices.add_arguments(parser)
    parser.add_argument("--tenants", type=int, default=200)
    parser.add_argument("--documents", type=lambda names: names.split(","), default=list(DOCUMENTS))
    return parser.parse_args()


def measure(bench, document, tenants, environment):
    """Returns the measurements of a document, by number of connections and by system."""
    service, postgraphile = bench.servers
    path = lab.prepare(service, document, tenants)
    peer_path = peer.prepare(service, postgraphile, document, tenants)
    floor = None if document == "q0" else Floor(environment, tenants)
    cells = {}
    for connections in CONNECTIONS:
        runs = {service.name: bench.wrk(service, path, connections),
                postgraphile.name: bench.wrk(postgraphile, peer_path, connections)}
        if floor and connections in FLOOR_CONNECTIONS:
            runs["floor"] = bench.floor(floor, document, connections)
        name = f"{document.upper()} c={connections}"
        cells[connections] = bench.alternate(name, runs)
        rates = (f"{system} {measured.rate:,.0f}/s" for system, measured in cells[connections].items())
        print(f"{name}: {', '.join(rates)}", flush=True)
    return cells


def report_text(results, memory):
    """Returns the tables of the results, as Markdown."""
    parts = [ratio_table(results), "", detail_table(results), "",
             "Peak resident memory: " + ", ".join(f"{name} {mib:,.0f} MiB" for name, mib in memory.items()) + "."]
    return "\n".join(parts) + "\n"


def ratio_table(results):
    rows = ["| document | " + " | ".join(f"c = {connections}" for connections in CONNECTIONS) + " |",
            "|---" * (1 + len(CONNECTIONS)) + "|"]
    for document, cells in results.items():
        ratios = (f"{cell['Palisade'].rate / cell['PostGraphile'].rate:.1f}" for cell in cells.values())
        rows.append(f"| {document.upper()} | {' | '.join(ratios)} |")
    return "\n".join(rows)


def detail_table(results):
    rows = ["| document | c | system | req/s | p50 ms | p99 ms | service us | PostgreSQL us | bad |",
            "|---|---|---|---|---|---|---|---|---|"]
    for document, cells in results.items():
        for connections, cell in cells.items():
            for name, measured in cell.items():
                latency = "| – | – | – " if name == "floor" else (
                    f"| {measured.p50:,.2f} | {measured.p99:,.2f} | {measured.service_us:,.0f} ")
                bad = "–" if name == "floor" else f"{measured.bad:.0f}"
                rows.append(f"| {document.upper()} | {connections} | {name} | {measured.rate:,.0f} {latency}"
                            f"| {measured.postgres_us:,.0f} | {bad} |")
    return "\n".join(rows)


def as_json(results):
    return {document: {connections: {name: dataclasses.asdict(measured) for name, measured in cell.items()}
                       for connections, cell in cells.items()} for document, cells in results.items()}


def write_docs(options, results, text, postgres):
    caption = f"Requests per second, {lab.provenance()}"
    (lab.ROOT / "docs/performance.svg").write_text(plot.draw(results, caption))
    lab.write_docs("comparison", f"""\
Measured on {lab.provenance()}, with {os.cpu_count()} cores, PostgreSQL {postgres}, PostGraphile {peer.version()} and
{options.tenants} tenants, in slices of {options.seconds} s; the median of {options.rounds}:

![Requests per second of each document](performance.svg)

How many times as many requests as PostGraphile the service handles, for c connections:

{text}""")


if __name__ == "__main__":
    main()
