#!/usr/bin/env python3
"""Compares the service with PostGraphile and with the floor: documents Q0 to Q3 and M1 at 1, 8, 32 and 256 connections.

    cargo build --release
    (cd bench/peers/postgraphile && npm ci)
    bench/run.py [--seconds 2] [--rounds 3] [--tenants 200] [--documents q1,q3] [--write-docs]

Needs wrk, psql, pgbench and Node 22 or newer, which `npm ci` installs on Linux. Starts a private PostgreSQL, creates the
data once, and starts `palisade serve` and PostGraphile on the same database. Checks one response of each tenant, and
that both servers return the same content to a sample of them. The measurements of the systems alternate. If something
else uses the machine during a measurement, it is repeated. The floor is in floor.py.

Takes about 8 minutes. Prints tables. --write-docs also writes them into docs/performance.md, with a plot.
"""

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys

import lab
import peer
import plot
from floor import Floor
from usage import Usage, children, peak_memory_mib, postmaster_pid

DOCUMENTS = ("q0", "q1", "q2", "q3", "m1")
CONNECTIONS = (1, 8, 32, 256)
# The service has 8 connections.
FLOOR_CONNECTIONS = (1, 8)
# M1 adds rows, so it has tenants of its own.
WRITERS = 20
# How many cores other processes may use during a measurement, and how often a measurement is repeated.
MAX_NOISE = 0.15
MAX_REPETITIONS = 4


@dataclasses.dataclass
class Measurement:
    """The result of one slice, or the median of several."""

    rate: float
    p50: float = 0
    p99: float = 0
    service_us: float = 0
    postgres_us: float = 0
    bad: float = 0
    noise: float = 0


def main():
    options = arguments()
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(lab.database(options.tenants))
        tenants = lab.load_tenants(environment, options.tenants)
        readers, writers = tenants[:-WRITERS], tenants[-WRITERS:]
        # Without a budget, no request is rejected. fairness.py measures the effect of the budget.
        service = stack.enter_context(lab.service(environment, "--tenant-budget", "0"))
        postgraphile = stack.enter_context(peer.postgraphile(environment))
        bench = Bench(options, postmaster_pid(lab.BENCH_DIR / "dev"), [service, postgraphile])
        results = {}
        for document in options.documents:
            tenants = writers if document == "m1" else readers
            results[document] = bench.measure_document(
                document, lab.prepare(service, document, tenants),
                peer.prepare(service, postgraphile, document, tenants),
                None if document == "q0" else Floor(environment, tenants))
        memory = {server.name: peak_memory_mib(server.pid) for server in (service, postgraphile)}
    report = {"options": vars(options), "results": as_json(results), "memory": memory,
              "provenance": lab.provenance(), "noisy": bench.noisy}
    (lab.BENCH_DIR / "run.json").write_text(json.dumps(report, indent=2))
    text = report_text(results, memory, bench.noisy)
    print("\n" + text)
    if options.write_docs:
        write_docs(options, results, text)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=2, help="duration of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements per cell; the median is printed")
    parser.add_argument("--tenants", type=int, default=200)
    parser.add_argument("--documents", type=lambda names: names.split(","), default=list(DOCUMENTS))
    parser.add_argument("--max-noise", type=float, default=MAX_NOISE, help="cores that other processes may use")
    parser.add_argument("--write-docs", action="store_true", help="write docs/performance.md and its plot")
    return parser.parse_args()


class Bench:
    """Measures slices, and repeats those in which other processes used the machine."""

    def __init__(self, options, postgres, servers):
        self.options, self.postgres, self.servers = options, postgres, servers
        # The names of the measurements that stayed noisy.
        self.noisy = []

    def usage(self, measured=None):
        return Usage.now(self.postgres, [server.pid for server in self.servers], measured)

    def measure_document(self, document, path, peer_path, floor):
        service, postgraphile = self.servers
        cells = {}
        for connections in CONNECTIONS:
            runs = {server.name: lambda seconds, server=server, path=path: self.run_wrk(server, path, connections, seconds)
                    for server, path in ((service, path), (postgraphile, peer_path))}
            if floor and connections in FLOOR_CONNECTIONS:
                runs["floor"] = lambda seconds: self.run_floor(floor, document, connections, seconds)
            for run in runs.values():
                run(1)
            rounds = [{name: self.measure_slice(f"{document.upper()} {name} c={connections}", run)
                       for name, run in runs.items()} for _ in range(self.options.rounds)]
            cells[connections] = {name: median([slices[name] for slices in rounds]) for name in runs}
            print(line(document, connections, cells[connections]), flush=True)
        return cells

    def measure_slice(self, name, run):
        slices = []
        while len(slices) <= MAX_REPETITIONS:
            slices.append(run(self.options.seconds))
            if slices[-1].noise <= self.options.max_noise:
                return slices[-1]
        best = min(slices, key=lambda measurement: measurement.noise)
        print(f"warning: {name}: other processes used {best.noise:.2f} cores", file=sys.stderr)
        self.noisy.append(name)
        return best

    def run_wrk(self, server, path, connections, seconds):
        before = self.usage(server.pid)
        requests, elapsed, p50, p99, rejected, bad = lab.Load(server, path, connections, seconds).result()
        used = self.usage(server.pid) - before
        return Measurement(requests / elapsed, p50, p99, used.measured / requests * 1e6, used.postgres / requests * 1e6,
                           rejected + bad, used.noise())

    def run_floor(self, floor, document, connections, seconds):
        before, backends = self.usage(), children(self.postgres)
        rate = floor.run(document, connections, seconds)
        # Until PostgreSQL has noticed that a backend has ended, the CPU time of the backend is nowhere.
        lab.wait_for(lambda: children(self.postgres) <= backends)
        used = self.usage() - before
        return Measurement(rate, postgres_us=used.postgres / (rate * seconds) * 1e6, noise=used.noise())

def median(measurements):
    return Measurement(*(statistics.median(column) for column in zip(*map(dataclasses.astuple, measurements))))


def line(document, connections, cell):
    rates = ", ".join(f"{name} {measurement.rate:,.0f}/s" for name, measurement in cell.items())
    return f"{document.upper()} c={connections}: {rates}"


def report_text(results, memory, noisy):
    """Returns the tables."""
    parts = [ratio_table(results), "", detail_table(results), "",
             "Peak resident memory: " + ", ".join(f"{name} {mib:,.0f} MiB" for name, mib in memory.items()) + "."]
    if noisy:
        parts += ["", f"Other processes used more than {MAX_NOISE} cores during: {', '.join(noisy)}."]
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


def write_docs(options, results, text):
    caption = f"Requests per second, {lab.provenance()}"
    (lab.ROOT / "docs/performance.svg").write_text(plot.draw(results, caption))
    lab.write_docs("comparison", f"""\
Measured on {lab.provenance()}, with PostGraphile {peer.version()}, {options.tenants} tenants, slices of
{options.seconds} s, the median of {options.rounds}:

![Requests per second of each document](performance.svg)

How many times as many requests as PostGraphile the service handles, for c connections:

{text}""")


if __name__ == "__main__":
    main()
