#!/usr/bin/env python3
"""Measures what row level security and the signed context cost: the same statements without policies, with policies, and
with policies that verify the context.

    cargo build --release
    bench/context.py [--seconds 4] [--rounds 7] [--postgres DIR]... [--write-docs]

It measures each server whose programs are in a directory DIR, one after another. Without DIR, it measures the server that
`palisade dev` finds.

Each of the three kinds runs in turn in every round, on one database:

- bypass: as palisade_admin, to which no policy applies
- unsigned: as palisade_app, after app.sign_contexts(false)
- signed: as palisade_app, after app.sign_contexts(true)

The statements are those of floor.py, over one connection of pgbench. Then two services, one that does not sign contexts
and one that does, run document Q3 over 8 connections, and the CPU time of PostgreSQL per request counts.
"""

import argparse
import contextlib
import http.client
import os
import pathlib
import re
import statistics
import subprocess
import sys

import lab
import slices
from floor import Floor
from usage import postmaster_pid

DOCUMENTS = ("q1", "q2", "q3", "m1")
CONNECTIONS = 8
# The limits: microseconds more for a point read, and percent more CPU time of PostgreSQL for Q3.
MAX_POINT_READ_US, MAX_Q3_PERCENT = 10, 6


def main():
    options = arguments()
    text = "\n".join(measure(options, directory) for directory in options.postgres or [None])
    if options.write_docs:
        lab.write_docs("context", f"""\
Measured on {lab.provenance()}, with {os.cpu_count()} cores and {options.tenants} tenants, in slices of
{options.seconds} s; the median of {options.rounds}.

{text}""")


def measure(options, pg_bin):
    """Measures one server. Returns the report."""
    data_dir = lab.BENCH_DIR / "dev"
    if pg_bin:
        # Each major version has data of its own.
        data_dir = data_dir.with_name(f"dev-{major_version(pg_bin)}")
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(lab.database(options.tenants, data_dir, pg_bin))
        readers, writers = lab.load_tenants(environment, options.tenants)
        stack.callback(sign_contexts, environment, True)
        services = {kind: stack.enter_context(service(environment, kind)) for kind in ("unsigned", "signed")}
        bench = slices.Slices(options, postmaster_pid(data_dir), list(services.values()))
        path = lab.prepare(services["signed"], "q3", readers)
        floors = {name: measure_floor(bench, environment, name, writers if name == "m1" else readers)
                  for name in DOCUMENTS}
        served = alternate(bench, "Q3", {kind: served_run(bench, environment, kind, one, path)
                                         for kind, one in services.items()})
        version = lab.query(environment["PALISADE_APP_DATABASE_URL"], "show server_version")[0][0].split()[0]
    text = f"PostgreSQL {version}:\n\n{report(floors, served)}{bench.warning()}"
    print("\n" + text)
    return text


def service(environment, kind):
    """Starts a service that signs contexts, or one that does not. Each one serves only while the database verifies
    contexts, or does not. Both check this every few seconds, also while the other one is measured.
    """
    sign_contexts(environment, kind == "signed")
    flags = ["--tenant-budget", "0"]
    if kind == "unsigned":
        environment = {name: value for name, value in environment.items() if name != "PALISADE_CONTEXT_KEY"}
        flags.append("--unsigned-context")
    return lab.service(environment, *flags)


def served_run(bench, environment, kind, server, path):
    run = bench.wrk(server, path, CONNECTIONS)

    def switch_and_run(seconds):
        sign_contexts(environment, kind == "signed")
        lab.wait_for(lambda: is_healthy(server))
        slice_ = run(seconds)
        if slice_.bad:
            print(f"warning: Q3 {kind}: {slice_.bad:.0f} bad responses", file=sys.stderr)
        return slice_
    return switch_and_run


def is_healthy(server):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200


def major_version(pg_bin):
    out = subprocess.run([pg_bin / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    return re.search(r"[0-9]+", out)[0]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    slices.add_arguments(parser)
    parser.set_defaults(seconds=4, rounds=7)
    parser.add_argument("--tenants", type=int, default=200)
    parser.add_argument("--postgres", type=pathlib.Path, action="append", metavar="DIR",
                        help="a directory with the programs of PostgreSQL; can be repeated")
    return parser.parse_args()


def sign_contexts(environment, is_signed):
    lab.query(environment["PALISADE_OWNER_DATABASE_URL"], f"select app.sign_contexts({is_signed})")


def switched(environment, is_signed, run):
    """Returns a run that switches the verification on or off first."""
    def switch_and_run(seconds):
        sign_contexts(environment, is_signed)
        return run(seconds)
    return switch_and_run


def alternate(bench, name, runs):
    """Like Slices.alternate, but also returns the slices of each round, because only differences within a round count."""
    for run in runs.values():
        run(1)
    rounds = [{kind: bench.measure(f"{name} {kind}", run) for kind, run in runs.items()}
              for _ in range(bench.options.rounds)]
    print(f"{name}: " + ", ".join(f"{kind} {statistics.median(one[kind].rate for one in rounds):,.0f}/s"
                                  for kind in runs), flush=True)
    return rounds


def measure_floor(bench, environment, document, tenants):
    app, admin = (Floor(environment, tenants, role) for role in ("app", "admin"))
    runs = {kind: switched(environment, kind == "signed", bench.floor(floor, document, 1))
            for kind, floor in (("bypass", admin), ("unsigned", app), ("signed", app))}
    return alternate(bench, document.upper(), runs)


def microseconds(slice_):
    """The time of one transaction over one connection."""
    return 1e6 / slice_.rate


def difference(rounds, kind, base, value):
    return statistics.median(value(one[kind]) - value(one[base]) for one in rounds)


def report(floors, served):
    rows = ["| document | without policies | with policies | with policies and signed contexts | policies cost "
            "| signatures cost |", "|---" * 6 + "|"]
    for document, rounds in floors.items():
        times = " | ".join(f"{statistics.median(microseconds(one[kind]) for one in rounds):,.0f} us"
                           for kind in ("bypass", "unsigned", "signed"))
        policies = difference(rounds, "unsigned", "bypass", microseconds)
        signatures = difference(rounds, "signed", "unsigned", microseconds)
        rows.append(f"| {document.upper()} | {times} | {policies:+,.0f} us | {signatures:+,.1f} us |")
    point_read = difference(floors["q1"], "signed", "unsigned", microseconds)
    base = statistics.median(one["unsigned"].postgres_us for one in served)
    percent = difference(served, "signed", "unsigned", lambda one: one.postgres_us) / base * 100
    return "\n".join(rows) + f"""

Q1 is a point read: {point_read:+.1f} us, limit {MAX_POINT_READ_US:+} us. The service's Q3 over {CONNECTIONS} connections
takes {base:,.0f} us of PostgreSQL's CPU time per request without signatures, and {percent:+.1f} % with them, limit
{MAX_Q3_PERCENT:+} %.
"""


if __name__ == "__main__":
    main()
