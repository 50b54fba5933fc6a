#!/usr/bin/env python3
"""Measures what floods of one tenant cost the other tenants and the machine.

    cargo build --release
    bench/abuse.py [--seconds 10] [--only typename,brotli] [--check] [--write-docs]   # each flood alone
    bench/abuse.py --five [--seconds 60] [--check] [--write-docs]                    # five tenants flood at once
    bench/abuse.py --legitimate [--check] [--write-docs]                             # the largest legitimate requests
    bench/abuse.py --list                                                            # the names of the floods

Needs wrk, psql and Linux. Starts a private PostgreSQL below target/bench, creates 80 demo tenants once per binary, and
copies their database for each flood. Everything runs on this machine, over loopback, for a limited time, and ends with
this command.

Without a mode, each flood runs against a new `palisade serve` with the default settings. Another tenant, the victim,
sends a light query at a fixed rate over its own connections, every tenth time over a new one. Its latency counts from
the time at which a request was due, so a stall delays all requests that are due in it. This is measured twice: first
while an attacker sends the headline document over the same number of connections (at most 32), then during the flood.
A flood passes if

    the p99 of the victim is at most 2 times its p99 during the flood of headline documents,
    all of its responses have the status 200 and no errors,
    /health/live returns 200 within 1 s,
    the resident memory of the service stays below 256 MiB,
    the database and the logs of PostgreSQL and of the service grow by less than 10 MB per minute.

A short flood is extrapolated to a minute. If a flood fails only because of the growth, repeat it with --seconds 60.
The attackers run with a lower priority (nice 10) than the service: in reality they have machines of their own. If the
service takes more than --max-memory, this command kills it, and the flood fails.

With --five, 50 tenants send the headline document at a steady rate, a third of what the service can handle: first
alone, then while 5 other tenants run all floods at once, each with a tenth of the connections. They must keep 90 % of
their throughput. With --legitimate, each request must succeed.

The source addresses are different ones of the loopback network: the attackers have one, the victim another, each of
the 50 tenants its own.
"""

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import floods
import lab
from slices import MAX_NOISE
from usage import Usage, peak_memory_mib, postmaster_pid, tree_seconds

TENANTS = 80
TEMPLATE, DATABASE = "abuse_template", "abuse"
VICTIM_ADDRESS, PROBE_ADDRESS = "127.0.0.2", "127.0.0.3"
VICTIM_LOAD = {"rate": 100, "connections": 8, "fresh_every": 10}
# How long a flood runs before the measurement starts.
RAMP_SECONDS = 2
ATTACKERS, OTHERS = 5, 50
PROBE_TIMEOUT = 15
MIB = 1024 * 1024

MAX_FACTOR = 2
MAX_LIVE_SECONDS = 1
MAX_MEMORY_MIB = 256
MAX_GROWTH_MB = 10
MIN_THROUGHPUT = 0.9


def main():
    options = arguments()
    if options.list:
        for flood in floods.FLOODS:
            print(f"{flood.name:24} {flood.connections:5} connections: {flood.title}")
        return
    # End what was started, also when this command is terminated.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with world(options) as bench:
        mode = measure_five if options.five else measure_legitimate if options.legitimate else measure_floods
        failed = mode(bench)
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    if options.check and failed:
        sys.exit(1)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, help="duration of a measurement: 10, or 60 with --five")
    parser.add_argument("--rounds", type=int, default=1,
                        help="measurements of each flood; the one with the median factor counts")
    parser.add_argument("--only", type=lambda names: names.split(","), metavar="NAMES", help="only these floods")
    parser.add_argument("--connections", type=int, help="connections of each flood, instead of its own number")
    parser.add_argument("--max-memory", type=int, default=4096, metavar="MIB",
                        help="kill the service if it takes more memory; 4096 by default")
    parser.add_argument("--five", action="store_true", help="measure the flood of five tenants")
    parser.add_argument("--legitimate", action="store_true", help="measure the largest legitimate requests")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is broken")
    parser.add_argument("--list", action="store_true", help="list the floods")
    parser.add_argument("--write-docs", action="store_true", help="write the table into docs/operations.md")
    options = parser.parse_args()
    known = {flood.name for flood in floods.FLOODS}
    if unknown := set(options.only or ()) - known:
        parser.error(f"unknown floods: {', '.join(sorted(unknown))}; --list prints their names")
    if options.write_docs and (options.only or options.connections):
        parser.error("--write-docs needs all floods with their own connections")
    options.seconds = options.seconds or (60 if options.five else 10)
    options.floods = [flood for flood in floods.FLOODS if not options.only or flood.name in options.only]
    return options


# The database and its tenants.


@contextlib.contextmanager
def world(options):
    """Starts PostgreSQL with the demo tenants. Yields the bench."""
    # Another binary may have other migrations. It gets a new directory.
    digest = hashlib.sha256(lab.BINARY.read_bytes()).hexdigest()[:8]
    data_dir = lab.BENCH_DIR / f"abuse-{digest}"
    for old in lab.BENCH_DIR.glob("abuse-*"):
        if old.is_dir() and old != data_dir:
            shutil.rmtree(old)
    with lab.dev_database(data_dir) as environment:
        try:
            yield Bench(options, environment, data_dir)
        finally:
            for request in lab.BENCH_DIR.glob("abuse-*.request"):
                request.unlink()


class Bench:
    """PostgreSQL with a template of the database."""

    def __init__(self, options, environment, data_dir):
        self.options, self.data_dir = options, data_dir
        self.superuser = environment["PALISADE_APP_DATABASE_URL"].replace("palisade_app@", "postgres@")
        self.environment = environment
        self.postgres_log = data_dir / "postgres.log"
        self.postmaster = postmaster_pid(data_dir)
        help_text = subprocess.run([lab.BINARY, "serve", "--help"], check=True, capture_output=True, text=True).stdout
        self.has_health_listener = "--health-listen" in help_text
        self.create_template()

    def url(self, database, url=None):
        return (url or self.superuser).replace("/palisade?", f"/{database}?")

    def environment_for(self, database):
        """Returns the environment of the service for a database. The level of its log is the default one."""
        urls = {name: self.url(database, value) for name, value in self.environment.items()
                if name == "DATABASE_URL" or name.endswith("_DATABASE_URL")}
        return {name: value for name, value in {**self.environment, **urls}.items() if name != "PALISADE_LOG"}

    def create_template(self):
        postgres = self.url("postgres")
        if lab.query(postgres, f"select 1 from pg_database where datname = '{TEMPLATE}'"):
            return
        print(f"creating {TENANTS} tenants", file=sys.stderr)
        # The database has a temporary name until it is complete.
        draft = f"{TEMPLATE}_draft"
        lab.query(postgres, f"drop database if exists {draft} with (force)")
        lab.query(postgres, f"create database {draft} owner palisade_owner template template0")
        environment = {**self.environment_for(draft), "PALISADE_OWNER_DATABASE_URL": self.url(draft)}
        for command in (["migrate"], ["demo", "--tenants", str(TENANTS)]):
            subprocess.run([lab.BINARY, *command], check=True, env=environment, stdout=subprocess.DEVNULL)
        lab.query(self.url(draft), "vacuum analyze")
        lab.query(postgres, f"alter database {draft} rename to {TEMPLATE}")

    def create_database(self, data):
        """Replaces the database by a copy of the template, in which each tenant of `data` has the rows of its names."""
        postgres = self.url("postgres")
        # A flood can write gigabytes into the log.
        os.truncate(self.postgres_log, 0)
        lab.query(postgres, f"drop database if exists {DATABASE} with (force)")
        lab.query(postgres, f"create database {DATABASE} owner palisade_owner template {TEMPLATE} strategy file_copy")
        # The rights on a database are not copied, and `serve` does not start if everyone may create temporary tables.
        lab.query(postgres, f"revoke temporary on database {DATABASE} from public")
        for tenant, names in data.items():
            self.add_rows(tenant, names)
        lab.query(self.url(DATABASE), "vacuum analyze")
        lab.query(self.url(DATABASE), "checkpoint")

    def add_rows(self, number, names):
        url = self.url(DATABASE)
        (tenant, owner, project), = lab.query(url, f"""
            select users.tenant_id, users.id, (select min(id::text) from projects where tenant_id = users.tenant_id)
              from users join tenants on tenants.id = users.tenant_id
             where slug = '{lab.tenant_slug(number)}' and role = 'OWNER'""")
        for name in names:
            # The triggers would write the audit log.
            lab.query(url, f"set session_replication_role = replica; {floods.DATA[name]}",
                      {"tenant": tenant, "owner": owner, "project": project})

    def tokens(self, number):
        """Returns a token of the tenant with this number for each role."""
        rows = lab.query(self.url(DATABASE), f"""
            select role, tenant_id, users.id from users join tenants on tenants.id = tenant_id
             where slug = '{lab.tenant_slug(number)}' and users.status = 'ACTIVE'""")
        secret = self.environment["PALISADE_JWT_SECRET"]
        return {role: lab.create_token(secret, tenant, user) for role, tenant, user in rows}

    @contextlib.contextmanager
    def service(self, *flags):
        """Starts the service. Yields it with its health port."""
        health_port = lab.free_port() if self.has_health_listener else None
        health = ("--health-listen", f"127.0.0.1:{health_port}") if health_port else ()
        environment = {**self.environment_for(DATABASE), "PALISADE_TOKEN_A": self.tokens(VICTIM_TENANT)["OWNER"]}
        with (lab.BENCH_DIR / "abuse.log").open("w") as log:
            with lab.service(environment, *flags, *health, log=log) as server:
                yield Service(server, health_port, pathlib.Path(log.name))

    def attacker(self, server, number):
        tokens = self.tokens(number)
        comment = "comments(first: 1) { nodes { subject { ... on Project { id } } } }"
        projects = "projects(first: 1) { nodes { id } } organizations(first: 1) { nodes { id } }"
        body = json.dumps({"query": f"{{ {projects} {comment} }}"})
        found = {field: data["nodes"][0] for field, data in
                 json.loads(server.execute(tokens["OWNER"], body))["data"].items()}
        return floods.Attacker(tokens, found["projects"]["id"], found["comments"]["subject"].get("id", ""),
                               found["organizations"]["id"])

    def disk_bytes(self, service):
        """Returns the bytes of the database, and of the logs of PostgreSQL and the service."""
        size, = lab.query(self.url("postgres"), f"select pg_database_size('{DATABASE}')")[0]
        return int(size) + self.postgres_log.stat().st_size + service.log.stat().st_size


# The first tenants are those of `palisade dev`.
VICTIM_TENANT, BASELINE_TENANT, FLOOD_TENANT = 3, 4, 5
FIVE_TENANTS = range(6, 6 + ATTACKERS)
OTHER_TENANTS = range(20, 20 + OTHERS)


@dataclasses.dataclass(frozen=True)
class Service:
    """A running service."""

    server: lab.Server
    # The port of /health, if it has its own.
    health_port: int | None
    log: pathlib.Path


# Processes.


@contextlib.contextmanager
def running(command, content="", nice=0):
    """Runs a command. Yields the process. It gets its standard input when `output` reads its output."""
    prefix = ["nice", "-n", str(nice)] if nice else []
    process = subprocess.Popen([*prefix, *map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        process.stdin.write(content)
        process.stdin.close()
        yield process
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def output(process):
    """Waits for a process of clients.py or for wrk. Returns its result."""
    text = process.stdout.read()
    process.wait()
    lines = [line.removeprefix("RESULT ") for line in text.splitlines() if line.startswith(("RESULT ", "{"))]
    if not lines:
        sys.exit(f"a client failed: {process.args}")
    return json.loads(lines[-1])


class MemoryGuard:
    """Kills the service if it takes too much memory, so that an attack cannot exhaust the machine."""

    def __init__(self, pid, limit_mib):
        self.pid, self.limit_mib = pid, limit_mib
        # The service has ended, because of this guard or by itself.
        self.has_ended = False
        self.highest_mib = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def watch(self):
        while not self.has_ended and not self.ended.wait(0.05):
            now = memory_mib(self.pid)
            self.highest_mib = max(self.highest_mib, now)
            if now > self.limit_mib:
                os.kill(self.pid, signal.SIGKILL)
            # An ended process has no memory.
            self.has_ended = now == 0 or now > self.limit_mib

    def peak_mib(self):
        """Returns the peak memory of the service, or the highest memory that was seen before the service ended."""
        try:
            return peak_memory_mib(self.pid)
        except (OSError, StopIteration):
            self.has_ended = True
            return self.highest_mib


def memory_mib(pid):
    """Returns the resident memory of a process."""
    try:
        pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def reset_peak_memory(pid):
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


# The floods, one after the other.


@dataclasses.dataclass
class Result:
    """What a flood did to the victim and to the machine."""

    victim: dict
    attacker: dict
    health: dict
    peak_mib: float
    end_mib: float
    cores: float
    growth_mb: float
    # The service ended.
    has_ended: bool
    # How many cores other processes used.
    noise: float
    # The victim's p50 and p99 during the flood of headline documents.
    base_p50: float = 0
    base_p99: float = 0

    @property
    def factor(self):
        return self.victim["p99"] / self.base_p99

    @property
    def not_ok(self):
        return self.victim["sent"] - self.victim["statuses"].get("200", 0)

    def broken(self):
        """Returns the bounds that the flood broke."""
        live = self.health["/health/live"]
        bounds = {"latency": self.factor > MAX_FACTOR, "status": self.not_ok > 0,
                  "live": live["longest"] > MAX_LIVE_SECONDS or set(live["statuses"]) != {"200"},
                  "memory": self.has_ended or self.peak_mib >= MAX_MEMORY_MIB, "disk": self.growth_mb >= MAX_GROWTH_MB}
        return [name for name, is_broken in bounds.items() if is_broken]


def measure_floods(bench):
    """Measures each flood. Returns the names of those that broke a bound."""
    print(TABLE_HEAD, flush=True)
    results = {}
    for flood in bench.options.floods:
        rounds = sorted((measure_flood(bench, flood) for _ in range(bench.options.rounds)), key=lambda r: r.factor)
        results[flood] = rounds[len(rounds) // 2]
        print(table_row(bench, flood, results[flood]), flush=True)
    failed = {flood.name: result.broken() for flood, result in results.items() if result.broken()}
    report = {flood.name: {**dataclasses.asdict(result), "broken": result.broken()}
              for flood, result in results.items()}
    (lab.BENCH_DIR / "abuse.json").write_text(json.dumps(report, indent=2))
    if bench.options.write_docs:
        rows = [table_row(bench, flood, result) for flood, result in results.items()]
        noisy = [flood.name for flood, result in results.items() if result.noise > MAX_NOISE]
        warning = f"\nOther processes used more than {MAX_NOISE} cores during: {', '.join(noisy)}.\n" if noisy else ""
        lab.write_docs("abuse", f"{measured(bench)}:\n\n" + "\n".join([TABLE_HEAD, *rows]) + f"\n{warning}",
                       page="operations")
    return [f"{name} ({', '.join(bounds)})" for name, bounds in failed.items()]


def measured(bench):
    return (f"Measured on {lab.provenance()}, with {os.cpu_count()} cores; each measurement took "
            f"{bench.options.seconds} s")


def measure_flood(bench, flood):
    bench.create_database({FLOOD_TENANT: flood.data})
    connections = bench.options.connections or flood.connections
    with bench.service(*flood.flags) as service:
        baseline = bench.attacker(service.server, BASELINE_TENANT)
        attacker = bench.attacker(service.server, FLOOD_TENANT)
        headline = (floods.BASELINE, baseline, min(connections, floods.CONNECTIONS))
        beside(bench, service, [headline], seconds=1)
        base = beside(bench, service, [headline], bench.options.seconds)
        result = beside(bench, service, [(flood, attacker, connections)], bench.options.seconds)
    result.base_p50, result.base_p99 = base.victim["p50"], base.victim["p99"]
    result.noise = max(result.noise, base.noise)
    if result.noise > MAX_NOISE:
        print(f"warning: {flood.name}: other processes used {result.noise:.2f} cores", file=sys.stderr)
    return result


def beside(bench, service, attacks, seconds):
    """Measures the victim and the service beside attacks, which are floods with their attacker and connections."""
    server = service.server
    token = bench.tokens(VICTIM_TENANT)["OWNER"]
    victim = lab.Tenant("victim", "", "", token)
    client = {"token": token, "body": lab.request_body(server, "q1", victim), "source": VICTIM_ADDRESS, **VICTIM_LOAD}
    steady = floods.client_command("steady", clients=[client], port=server.port, seconds=seconds)
    probe = floods.client_command(
        "probe", probes=[(path, service.health_port) for path in ("/health/live", "/health/ready")], port=server.port,
        source=PROBE_ADDRESS, seconds=seconds, timeout=PROBE_TIMEOUT)
    reset_peak_memory(server.pid)
    usage = Usage.now(bench.postmaster, [server.pid])
    disk, cpu, start = bench.disk_bytes(service), tree_seconds(server.pid), time.monotonic()
    with contextlib.ExitStack() as stack:
        guard = stack.enter_context(MemoryGuard(server.pid, bench.options.max_memory))
        attackers = attack(stack, attacks, server.port, seconds)
        time.sleep(RAMP_SECONDS)
        clients = [stack.enter_context(running(*command)) for command in (steady, probe)]
        results = [output(client) for client in clients]
        cores = (tree_seconds(server.pid) - cpu) / (time.monotonic() - start)
        statuses = sum((collections.Counter(output(attacker)) for attacker in attackers), collections.Counter())
        peak = guard.peak_mib()
    minutes = (time.monotonic() - start) / 60
    # PostgreSQL may still write what the last requests left to it.
    time.sleep(1)
    growth = (bench.disk_bytes(service) - disk) / 1e6 / minutes
    noise = (Usage.now(bench.postmaster, [server.pid]) - usage).noise()
    return Result(results[0], dict(statuses), results[1], peak, memory_mib(server.pid), cores, growth, guard.has_ended,
                  noise)


def attack(stack, attacks, port, seconds):
    """Starts attacks that end by themselves, after the measurement. Returns the processes."""
    commands, clients = [], collections.defaultdict(list)
    for number, (flood, attacker, connections) in enumerate(attacks):
        path = lab.BENCH_DIR / f"abuse-{number}.request"
        path.write_bytes(flood.request(attacker))
        load = (path, port, connections, seconds + 2 * RAMP_SECONDS)
        if flood.mode == "wrk":
            commands.append((flood.wrk_command(*load), ""))
        else:
            clients[attacker.project].append(flood.client_arguments(*load))
    # One process of Python for each attacker: many would need much of the machine for their start.
    commands += [floods.client_command("attacks", floods=of_one) for of_one in clients.values()]
    return [stack.enter_context(running(*command, nice=10)) for command in commands]


TABLE_HEAD = ("| flood | connections | p50 ms: headline, flood | p99 ms: headline, flood | factor | not 200 "
              "| live, ready: longest s | MiB: peak, end | cores | growth MB/min | the attacker's responses "
              "| broken |\n"
              f"{'|---' * 12}|")


def table_row(bench, flood, result):
    live, ready = (result.health[path]["longest"] for path in ("/health/live", "/health/ready"))
    responses = ", ".join(f"{count:,} × {status}" for status, count in sorted(result.attacker.items())) or "none"
    connections = bench.options.connections or flood.connections
    peak = f"{result.peak_mib:,.0f}, ended" if result.has_ended else f"{result.peak_mib:,.0f}, {result.end_mib:,.0f}"
    return (f"| {flood.name}: {flood.title} | {connections:,} | {result.base_p50:.1f}, {result.victim['p50']:.1f} "
            f"| {result.base_p99:.1f}, {result.victim['p99']:,.1f} | {result.factor:.1f} | {result.not_ok:,} "
            f"| {live:.2f}, {ready:.2f} | {peak} | {result.cores:.1f} | {result.growth_mb:,.1f} | {responses} "
            f"| {', '.join(result.broken()) or 'none'} |")


# Five attackers at once.


def measure_five(bench):
    """Measures the throughput of 50 tenants with and without the floods of 5 others."""
    data = sorted({name for flood in floods.FLOODS for name in flood.data})
    bench.create_database(dict.fromkeys(FIVE_TENANTS, data))
    flags = sorted({flag for flood in floods.FLOODS for flag in flood.flags})
    with bench.service(*flags) as service:
        server = service.server
        attackers = [bench.attacker(server, number) for number in FIVE_TENANTS]
        others = [lab.Tenant(lab.tenant_slug(number), "", "", bench.tokens(number)["OWNER"])
                  for number in OTHER_TENANTS]
        body = lab.request_body(server, "q3", others[0])
        rate = capacity(server, others) / 3
        clients = [{"token": other.token, "body": body, "source": f"127.0.1.{number + 1}", "rate": rate / OTHERS,
                    "connections": 2, "fresh_every": 10} for number, other in enumerate(others)]
        attacks = [(flood, attacker, max(1, (bench.options.connections or flood.connections) // 10))
                   for attacker in attackers for flood in floods.FLOODS]
        alone = throughput(bench, service, clients, [])
        beside_floods = throughput(bench, service, clients, attacks)
    kept = beside_floods["in_time"] / alone["in_time"]
    text = five_table(bench, rate, alone, beside_floods, kept)
    print(text)
    if bench.options.write_docs:
        lab.write_docs("abuse-five", f"{measured(bench)}. {text}", page="operations")
    return [] if kept >= MIN_THROUGHPUT else [f"five ({kept:.0%} of the throughput)"]


def capacity(server, tenants):
    """Returns how many headline documents per second the service handles."""
    path = lab.prepare(server, "q3", tenants, "abuse-others")
    requests, seconds, *_ = lab.Load(server, path, floods.CONNECTIONS, seconds=5).result()
    return requests / seconds


def throughput(bench, service, clients, attacks):
    seconds, port, pid = bench.options.seconds, service.server.port, service.server.pid
    command = floods.client_command("steady", clients=clients, port=port, seconds=seconds)
    reset_peak_memory(pid)
    with contextlib.ExitStack() as stack:
        guard = stack.enter_context(MemoryGuard(pid, bench.options.max_memory))
        attackers = attack(stack, attacks, port, seconds)
        time.sleep(RAMP_SECONDS)
        result = output(stack.enter_context(running(*command)))
        result["attackers"] = sum((collections.Counter(output(process)) for process in attackers),
                                  collections.Counter())
        result["peak_mib"] = guard.peak_mib()
    return result


def five_table(bench, rate, alone, beside_floods, kept):
    rows = [f"{OTHERS} tenants offer {rate:.0f} headline documents per second in total, a third of what the service "
            f"handles. Beside the floods of {ATTACKERS} tenants, they keep {kept:.0%} of their throughput:", "",
            "| the 50 tenants | responses per second | p50 ms | p99 ms | not 200 | MiB: peak |", "|---" * 6 + "|"]
    for name, result in (("alone", alone), (f"beside the floods of {ATTACKERS} tenants", beside_floods)):
        rows.append(f"| {name} | {result['in_time'] / bench.options.seconds:.0f} | {result['p50']:.1f} "
                    f"| {result['p99']:,.1f} | {result['sent'] - result['statuses'].get('200', 0):,} "
                    f"| {result['peak_mib']:,.0f} |")
    responses = ", ".join(f"{count:,} × {status}" for status, count in sorted(beside_floods["attackers"].items()))
    return "\n".join([*rows, "", f"The attackers' responses: {responses}."]) + "\n"


# The largest legitimate requests.


def measure_legitimate(bench):
    """Sends the largest legitimate requests. Returns those that failed."""
    bench.create_database({FLOOD_TENANT: ["100 projects", "100 invoices per project", "comments of crabs"]})
    rows = ["| request | status | seconds | bytes of the response |", "|---|---|---|---|"]
    failed = []
    with bench.service() as service:
        attacker = bench.attacker(service.server, FLOOD_TENANT)
        for name, body, is_complete in legitimate_requests(attacker):
            status, seconds, content = execute(service.server, attacker.tokens["OWNER"], body)
            response = json.loads(content) if status == 200 else {"errors": content.decode()}
            if "errors" in response or not is_complete(response["data"]):
                failed.append(name)
                print(f"{name}: {status} {content[:500]!r}", file=sys.stderr)
            rows.append(f"| {name} | {status} | {seconds:.2f} | {len(content):,} |")
    text = "\n".join(rows) + "\n"
    print(text)
    if bench.options.write_docs:
        lab.write_docs("abuse-legitimate", f"Measured on {lab.provenance()}:\n\n{text}", page="operations")
    return failed


def legitimate_requests(attacker):
    """Yields a name, a body and a function of the data that checks whether the response is complete."""
    fields = "id name invoices(first: 100) { nodes { id number status dueOn } }"
    yield ("a page of 100 projects with 100 invoices each",
           json.dumps({"query": f"{{ projects(first: 100) {{ nodes {{ {fields} }} }} }}"}),
           lambda data: [len(node["invoices"]["nodes"]) for node in data["projects"]["nodes"]] == [100] * 100)
    products = [{"asin": f"BENCH{number:05}", "title": f"Product {number}",
                 "price": {"amount": "10.00", "currencyCode": "EUR"}} for number in range(1000)]
    yield ("an import of 1,000 products",
           json.dumps({"query": "mutation ($input: ImportProductsInput!) { importProducts(input: $input) "
                                "{ results { product { id } userErrors { code } } userErrors { code } } }",
                       "variables": {"input": {"rows": products}}}),
           lambda data: sum(bool(result["product"]) for result in data["importProducts"]["results"]) == 1000)
    yield ("an invoice of 500 lines",
           json.dumps({"query": "mutation ($input: CreateInvoiceInput!) { createInvoice(input: $input) "
                                "{ invoice { id total { amount } } userErrors { code } } }",
                       "variables": {"input": floods.invoice_input(attacker.organization, 500)}}),
           lambda data: data["createInvoice"]["invoice"]["total"]["amount"] == "5000.00")
    for name, character in (("ASCII characters", "x"), ("characters of 4 bytes", "🦀")):
        body = character * 10_000
        yield (f"a comment of 10,000 {name}",
               json.dumps({"query": "mutation ($input: CreateCommentInput!) { createComment(input: $input) "
                                    "{ comment { body } userErrors { code } } }",
                           "variables": {"input": {"subjectId": attacker.project, "body": body}}}),
               lambda data, body=body: data["createComment"]["comment"]["body"] == body)
    yield ("a page of 100 comments of 10,000 characters of 4 bytes",
           json.dumps({"query": "query ($id: ID!) { project(id: $id) { comments(first: 100, orderBy: "
                                "[{ field: CREATED_AT, direction: ASC }]) { nodes { body } } } }",
                       "variables": {"id": attacker.commented}}),
           lambda data: len(data["project"]["comments"]["nodes"]) == 100)


def execute(server, token, body):
    """Returns the status, the seconds and the content of the response to a request, whatever the status is."""
    start = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", "/graphql", body.encode(), {
            "Authorization": f"Bearer {token}", "Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        return response.status, time.monotonic() - start, content
    finally:
        connection.close()


if __name__ == "__main__":
    main()
