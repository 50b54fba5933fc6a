#!/usr/bin/env python3
"""Measures the service: documents Q0 to Q3 over 200 tenants at 1, 8 and 32 connections.

    cargo build --release
    bench/run.py [--seconds 4] [--rounds 3] [--tenants 200]

Needs wrk. Starts a private PostgreSQL, creates the data once, starts `palisade serve`, and checks the responses
for every tenant before the measurement. Prints a table: requests per second, latencies, CPU time per request.
"""

import argparse
import os
import pathlib
import statistics

import lab


def main():
    options = arguments()
    # Without a budget, no request is rejected. fairness.py measures the effect of the budget.
    with lab.database(options.tenants) as environment, lab.service(environment, "--tenant-budget", "0") as pid:
        tokens = lab.create_tokens(options.tenants)
        workloads = {name: lab.prepare(name, tokens) for name in ("q0", "q1", "q2", "q3")}
        measure(options, workloads, pid, postmaster_pid())


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=4, help="duration of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements per cell; the median is printed")
    parser.add_argument("--tenants", type=int, default=200)
    return parser.parse_args()


def measure(options, workloads, service, postgres):
    print("| document | connections | req/s | p50 ms | p99 ms | service us | PostgreSQL us | bad |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (path, length) in workloads.items():
        for connections in (1, 8, 32):
            lab.Load(path, connections, 1).result()
            rounds = [measure_cell(path, connections, options.seconds, service, postgres) for _ in range(options.rounds)]
            rate, p50, p99, server, database, bad = (statistics.median(column) for column in zip(*rounds))
            print(f"| {name.upper()} | {connections} | {rate:,.0f} | {p50:.2f} | {p99:.2f} "
                  f"| {server:,.0f} | {database:,.0f} | {bad:.0f} |", flush=True)
        print(f"<!-- {name}: {length:,.0f} bytes per response -->")
    print(f"<!-- peak resident memory of the service: {peak_memory_mib(service):.0f} MiB -->")


def measure_cell(path, connections, seconds, service, postgres):
    before = cpu_seconds([service]), cpu_seconds(with_children(postgres))
    requests, elapsed, p50, p99, rejected, bad = lab.Load(path, connections, seconds).result()
    after = cpu_seconds([service]), cpu_seconds(with_children(postgres))
    server, database = ((b - a) / requests * 1e6 for a, b in zip(before, after))
    return requests / elapsed, p50, p99, server, database, rejected + bad


def postmaster_pid():
    pid_files = sorted((lab.BENCH_DIR / "dev").glob("pg*/postmaster.pid"))
    return int(pid_files[-1].read_text().split()[0])


def with_children(parent):
    """Returns a process and its current children. The pool keeps its connections, so the backends of PostgreSQL stay
    the same during a measurement.
    """
    children = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [parent, *map(int, children)]


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except FileNotFoundError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def peak_memory_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
