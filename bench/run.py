#!/usr/bin/env python3
"""Measures the service: documents Q0 to Q3 over 200 tenants at 1, 8 and 32 connections.

    cargo build --release
    bench/run.py [--seconds 4] [--rounds 3] [--tenants 200]

Needs wrk. Starts a private PostgreSQL below target/bench, fills it once (200 tenants, 20,000 projects,
200,000 invoices, a million audit log entries: some minutes), starts `palisade serve`, and checks every
tenant's answers before it loads. Prints a table: requests a second, latencies, CPU time a request.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/palisade"
HOME = ROOT / "target/bench"
PORT = 8091
PROJECTS, INVOICES, AUDIT_LOGS = 100, 10, 50


def main():
    options = arguments()
    HOME.mkdir(parents=True, exist_ok=True)
    database = subprocess.Popen(
        [BINARY, "dev", "--data-dir", HOME / "dev", "--listen", "127.0.0.1:0"],
        stdout=(HOME / "dev.log").open("w"), stderr=subprocess.STDOUT,
    )
    service = None
    try:
        settings = dev_settings(database)
        fill(options.tenants)
        environment = {**os.environ, "PALISADE_LOG": "warn", **settings,
                       "DATABASE_URL": settings["PALISADE_APP_DATABASE_URL"]}
        service = subprocess.Popen([BINARY, "serve", "--listen", f"127.0.0.1:{PORT}"], env=environment)
        wait_for(lambda: get(f"http://127.0.0.1:{PORT}/health/ready"), service)
        tokens = make_tokens(options.tenants)
        workloads = {name: prepare(name, tokens) for name in ("q0", "q1", "q2", "q3")}
        measure(options, workloads, service.pid, postmaster())
    finally:
        for process in (service, database):
            if process:
                process.send_signal(signal.SIGTERM)
                process.wait()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=4, help="length of a slice")
    parser.add_argument("--rounds", type=int, default=3, help="slices of each cell; the median is shown")
    parser.add_argument("--tenants", type=int, default=200)
    return parser.parse_args()


def dev_settings(process):
    """What `palisade dev` wrote once it was ready."""
    path = HOME / "dev/dev.env"
    path.unlink(missing_ok=True)
    wait_for(path.exists, process)
    lines = (line.removeprefix("export ").split("=", 1) for line in path.read_text().splitlines())
    return {name: value.strip("'") for name, value in lines}


def wait_for(ready, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            sys.exit(f"a process ended early; see {HOME}/dev.log")
        if time.monotonic() > deadline:
            sys.exit("a process is not ready in time")
        time.sleep(0.05)


def get(url):
    try:
        with urllib.request.urlopen(url) as response:
            return response.read()
    except OSError:
        return None


def fill(tenants):
    command = [BINARY, "demo", "--data-dir", HOME / "dev", "--tenants", tenants, "--projects", PROJECTS,
               "--invoices", INVOICES, "--audit-logs", AUDIT_LOGS]
    subprocess.run([str(part) for part in command], check=True)


def make_tokens(tenants):
    """The slug and a token of each tenant that has the bench's amounts; dev's own three are smaller."""
    companies = ["Acme", "Globex", "Initech", "Umbrella", "Hooli", "Stark", "Wayne", "Wonka", "Tyrell",
                 "Cyberdyne", "Soylent", "Aperture"]
    found = []
    for number in range(3, tenants):
        round_, name = number // len(companies), companies[number % len(companies)].lower()
        slug = name if round_ == 0 else f"{name}-{round_ + 1}"
        command = [BINARY, "token", "--data-dir", HOME / "dev", "--tenant", slug,
                   "--user", f"olivia@{slug}.example", "--expires", "1d"]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append((slug, out.splitlines()[-1]))
    return found


def ask(token, body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/graphql", body.encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        return response.read()


def prepare(name, tokens):
    """Checks each tenant's answer, and writes what wrk sends."""
    document = (ROOT / f"bench/documents/{name}.graphql").read_text().strip()
    lengths, lines = [], []
    for slug, token in tokens:
        variables = {}
        if name == "q1":
            first = ask(token, json.dumps({"query": "{ projects(first: 1) { nodes { id } } }"}))
            variables = {"id": json.loads(first)["data"]["projects"]["nodes"][0]["id"]}
        body = json.dumps({"query": document, "variables": variables})
        answer = ask(token, body)
        check(name, slug, json.loads(answer))
        lengths.append(len(answer))
        lines += [token, body]
    path = HOME / f"{name}.txt"
    path.write_text("\n".join([str(int(min(lengths) * 0.9)), *lines]) + "\n")
    return path, statistics.mean(lengths)


def check(name, slug, answer):
    assert "errors" not in answer, answer
    data = answer["data"]
    if name == "q1":
        assert data["project"]["name"]
    elif name in ("q2", "q3"):
        nodes = data["projects"]["nodes"]
        assert len(nodes) == 20, f"{slug}: {len(nodes)} projects"
        for node in nodes if name == "q3" else []:
            assert len(node["invoices"]["nodes"]) == 5 and len(node["auditLogs"]["nodes"]) == 10
            email = node["owner"]["email"]
            assert email.endswith((f"@{slug}.example", "@consulting.example")), f"{slug}: {email}"


def measure(options, workloads, service, postgres):
    print("| document | connections | req/s | p50 ms | p99 ms | service us | PostgreSQL us | bad |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (path, length) in workloads.items():
        for connections in (1, 8, 32):
            slice_(path, connections, 1)
            runs = [cell(path, connections, options.seconds, service, postgres) for _ in range(options.rounds)]
            rate, p50, p99, server, database, bad = (statistics.median(column) for column in zip(*runs))
            print(f"| {name.upper()} | {connections} | {rate:,.0f} | {p50:.2f} | {p99:.2f} "
                  f"| {server:,.0f} | {database:,.0f} | {bad:.0f} |", flush=True)
        print(f"<!-- {name}: {length:,.0f} bytes an answer -->")
    print(f"<!-- peak resident memory of the service: {peak_memory(service):.0f} MiB -->")


def cell(path, connections, seconds, service, postgres):
    before = cpu([service]), cpu(family(postgres))
    requests, micros, wrong, errors, p50, p99 = slice_(path, connections, seconds)
    after = cpu([service]), cpu(family(postgres))
    server, database = ((b - a) / requests * 1e6 for a, b in zip(before, after))
    return requests / micros * 1e6, p50, p99, server, database, wrong + errors


def slice_(path, connections, seconds):
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s",
               "--timeout", "10s", "--script", ROOT / "bench/load.lua", f"http://127.0.0.1:{PORT}", "--", path]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = next(line for line in out.splitlines() if line.startswith("RESULT"))
    return [float(part) for part in result.split()[1:]]


def postmaster():
    pid_files = sorted((HOME / "dev").glob("pg*/postmaster.pid"))
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
