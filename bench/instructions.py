#!/usr/bin/env python3
"""Counts the instructions that the service runs for one request of documents Q0 to Q3 and M1.

    cargo build --release
    bench/instructions.py [--check] [--update] [--json] [--functions 10] [--with-callees]

Needs valgrind. Starts a private PostgreSQL with the three demo tenants of `palisade dev`, starts `palisade serve` under
callgrind, and sends each document several times over one connection, always with the same token and variables. M1 is a
dry run (`Prefer: tx=rollback`), so that the data stays the same. The result is the batch of requests with the fewest
instructions. Other batches contain more work of timers, such as the renewal of a cached role, or more wake-ups, because
a reply of PostgreSQL arrived in two parts. The result does not depend on the speed or the load of the machine: two runs
differ by less than 4 %.

--check fails if a document needs more instructions than bench/instructions.json allows. --update writes new limits, 5 %
above the measured numbers, and the table of docs/performance.md. Use --update also after an improvement, so that a
later change that undoes the improvement fails the check.
"""

import argparse
import collections
import http.client
import json
import platform
import shutil
import sys

import callgrind
import lab

DOCUMENTS = ("q0", "q1", "q2", "q3", "m1")
# Requests per batch. The batches are short, so that only few of them contain the work of a timer.
REQUESTS = {"q0": 100, "q1": 50, "q2": 50, "q3": 10, "m1": 50}
BATCHES = 8
# One connection to the database, no budget, and long timeouts: under callgrind, the service is about 50 times as slow.
FLAGS = ("--tenant-budget", "0", "--pool-size", "1", "--operation-timeout", "10m", "--receive-timeout", "10m")
DATA_DIR = lab.BENCH_DIR / "instructions"
LIMITS = lab.ROOT / "bench/instructions.json"
TOLERANCE = 1.05


def main():
    options = arguments()
    check_environment()
    profiles = measure()
    totals = {name: round(profile.total / REQUESTS[name]) for name, profile in profiles.items()}
    limits = read_limits()
    exceeded = [name for name, total in totals.items() if total > limits.get(name, 0)]
    if options.json:
        print(json.dumps({name: as_json(profile, REQUESTS[name], options)
                          for name, profile in profiles.items()}, indent=2))
    else:
        for name in exceeded if options.check else profiles:
            print_profile(name, profiles[name], options)
        print(table(totals, limits))
    if options.update:
        update(totals)
    if options.check and exceeded:
        names = ", ".join(map(str.upper, exceeded))
        sys.exit(f"{names}: more instructions than {LIMITS.relative_to(lab.ROOT)} allows")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", type=int, default=10, help="functions to print per document")
    parser.add_argument("--with-callees", action="store_true", help="sort functions by instructions with callees")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true",
                        help="fail if a document exceeds its limit; print only its functions")
    parser.add_argument("--update", action="store_true", help="write new limits")
    return parser.parse_args()


def check_environment():
    missing = [name for name in ("valgrind", "callgrind_control") if not shutil.which(name)]
    if missing:
        sys.exit(f"{' and '.join(missing)} not found: install valgrind")
    if not lab.BINARY.exists():
        sys.exit("no release binary: run `cargo build --release`")
    if platform.machine() != "x86_64":
        print(f"the limits are for x86_64; this machine is {platform.machine()}", file=sys.stderr)


def measure():
    """Returns the profile of each document."""
    # Create the data anew, so that its content and layout do not depend on earlier runs or versions.
    shutil.rmtree(DATA_DIR, ignore_errors=True)
    profiles_dir = lab.BENCH_DIR / "callgrind"
    shutil.rmtree(profiles_dir, ignore_errors=True)
    profiles_dir.mkdir(parents=True)
    with lab.dev_database(DATA_DIR) as environment:
        environment |= {
            # With several threads, the threads would steal work from each other at random.
            "TOKIO_WORKER_THREADS": "1",
            # By default, mimalloc returns unused memory to the system after some time. -1 turns this off.
            "MIMALLOC_PURGE_DELAY": "-1",
        }
        tenant = lab.Tenant(lab.tenant_slug(0), environment["PALISADE_TENANT_A"], "", environment["PALISADE_TOKEN_A"])
        with lab.service(environment, *FLAGS, wrapper=callgrind.wrapper(profiles_dir)) as server:
            recorder = callgrind.Recorder(server.pid, profiles_dir)
            return {document: least_batch(Client(server, document, tenant), recorder) for document in DOCUMENTS}


def least_batch(client, recorder):
    """Returns the profile of the batch with the fewest instructions."""
    client.send()
    recorder.discard()
    batches = []
    for _ in range(BATCHES):
        for _ in range(REQUESTS[client.document]):
            client.send()
            # Without this wait, the next request could arrive while the service still works on the previous one.
            callgrind.wait_until_idle(recorder.pid)
        batches.append(recorder.take())
    return min(batches, key=lambda batch: batch.total)


class Client:
    """Sends the same request repeatedly over one connection."""

    def __init__(self, server, document, tenant):
        self.document = document
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port)
        self.headers = {"Authorization": f"Bearer {tenant.token}", "Content-Type": "application/json"}
        if document == "m1":
            self.headers["Prefer"] = "tx=rollback"
        self.body = lab.request_body(server, document, tenant)
        response = self.post()
        lab.check(document, tenant.slug, json.loads(response))
        self.length = len(response)

    def send(self):
        """Sends the request. The response must be as long as the first one."""
        response = self.post()
        assert len(response) == self.length, f"{len(response)} bytes instead of {self.length}: {response[:300]}"

    def post(self):
        self.connection.request("POST", "/graphql", self.body, self.headers)
        response = self.connection.getresponse()
        content = response.read()
        assert response.status == 200, content
        return content


def print_profile(name, profile, options):
    requests = REQUESTS[name]
    print(f"{name.upper()}: {profile.total / requests:,.0f} instructions per request")
    print(f"  {'self':>10}  {'':>6}  {'with callees':>12}  function")
    for row in functions(profile, requests, options):
        print(f"  {row['self']:>10,}  {row['share']:>6.1%}  {row['with_callees']:>12,}  {shorten(row['name'])}")
    crates = ", ".join(f"{crate} {cost / profile.total:.0%}" for crate, cost in by_crate(profile).most_common(10))
    print(f"  by crate: {crates}\n", flush=True)


def functions(profile, requests, options):
    """Returns the functions with the most instructions."""
    order = profile.inclusive if options.with_callees else profile.own
    names = sorted(order, key=lambda name: (-min(order[name], profile.total), name))[:options.functions]
    return [{"name": name, "self": round(profile.own[name] / requests), "share": profile.own[name] / profile.total,
             # In a recursive function, callgrind counts an instruction several times.
             "with_callees": round(min(profile.inclusive[name], profile.total) / requests)}
            for name in names]


def by_crate(profile):
    crates = collections.Counter()
    for name, own in profile.own.items():
        crates[callgrind.crate(name, profile.objects[name])] += own
    return crates


def shorten(name, length=120):
    return name if len(name) <= length else name[:length - 1] + "…"


def as_json(profile, requests, options):
    return {"instructions": round(profile.total / requests), "functions": functions(profile, requests, options),
            "crates": {name: round(cost / requests) for name, cost in by_crate(profile).most_common()}}


def table(totals, limits):
    rows = [f"| {name.upper()} | {total:,} | {limits.get(name, 0):,} |" for name, total in totals.items()]
    return "\n".join(["| document | instructions per request | limit |", "|---|---|---|", *rows])


def read_limits():
    return json.loads(LIMITS.read_text()) if LIMITS.exists() else {}


def update(totals):
    limits = {name: round(total * TOLERANCE) for name, total in totals.items()}
    LIMITS.write_text(json.dumps(limits, indent=2) + "\n")
    lab.write_docs("instructions", f"Measured on {lab.provenance()}:\n\n{table(totals, limits)}\n")


if __name__ == "__main__":
    main()
