#!/usr/bin/env python3
"""Measures the service: documents Q0 to Q3 over 200 tenants at 1, 8 and 32 connections.

    cargo build --release
    bench/run.py [--seconds 4] [--rounds 3] [--tenants 200]

Needs wrk. Starts a private PostgreSQL, fills it once, starts `palisade serve`, and checks every tenant's
answers before it loads. Prints a table: requests a second, latencies, CPU time a request.
"""

import argparse
import os
import pathlib
import statistics

import lab


def main():
    options = arguments()
    # Nobody is refused here: what a tenant may have is fairness.py's business.
    with lab.database(options.tenants) as environment, lab.service(environment, "--tenant-budget", "0") as pid:
        tokens = lab.make_tokens(options.tenants)
        workloads = {name: lab.prepare(name, tokens) for name in ("q0", "q1", "q2", "q3")}
        measure(options, workloads, pid, postmaster())


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=4, help="length of a slice")
    parser.add_argument("--rounds", type=int, default=3, help="slices of each cell; the median is shown")
    parser.add_argument("--tenants", type=int, default=200)
    return parser.parse_args()


def measure(options, workloads, service, postgres):
    print("| document | connections | req/s | p50 ms | p99 ms | service us | PostgreSQL us | bad |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (path, length) in workloads.items():
        for connections in (1, 8, 32):
            lab.Load(path, connections, 1).result()
            runs = [cell(path, connections, options.seconds, service, postgres) for _ in range(options.rounds)]
            rate, p50, p99, server, database, bad = (statistics.median(column) for column in zip(*runs))
            print(f"| {name.upper()} | {connections} | {rate:,.0f} | {p50:.2f} | {p99:.2f} "
                  f"| {server:,.0f} | {database:,.0f} | {bad:.0f} |", flush=True)
        print(f"<!-- {name}: {length:,.0f} bytes an answer -->")
    print(f"<!-- peak resident memory of the service: {peak_memory(service):.0f} MiB -->")


def cell(path, connections, seconds, service, postgres):
    before = cpu([service]), cpu(family(postgres))
    requests, took, p50, p99, refused, bad = lab.Load(path, connections, seconds).result()
    after = cpu([service]), cpu(family(postgres))
    server, database = ((b - a) / requests * 1e6 for a, b in zip(before, after))
    return requests / took, p50, p99, server, database, refused + bad


def postmaster():
    pid_files = sorted((lab.HOME / "dev").glob("pg*/postmaster.pid"))
    return int(pid_files[-1].read_text().split()[0])


def family(parent):
    """A process and its children that live now; the pool keeps its backends through a slice."""
    children = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [parent, *map(int, children)]


def cpu(pids):
    total = 0
    for pid in pids:
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except FileNotFoundError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def peak_memory(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
