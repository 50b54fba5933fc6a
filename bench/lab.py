"""What the measurements share: a private PostgreSQL with bench data, the service, tokens, wrk.

Everything lives below target/bench. The data is made once: 200 tenants, 20,000 projects, 200,000 invoices,
a million audit log entries take some minutes.
"""

import contextlib
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


@contextlib.contextmanager
def database(tenants):
    """Starts PostgreSQL and fills it; gives the settings that `palisade serve` needs."""
    HOME.mkdir(parents=True, exist_ok=True)
    log = (HOME / "dev.log").open("w")
    command = [BINARY, "dev", "--data-dir", HOME / "dev", "--listen", "127.0.0.1:0"]
    with ending(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)) as process:
        settings = dev_settings(process)
        fill(tenants)
        yield {**os.environ, "PALISADE_LOG": "warn", **settings,
               "DATABASE_URL": settings["PALISADE_APP_DATABASE_URL"]}


@contextlib.contextmanager
def service(environment, *flags):
    """Starts `palisade serve` with flags; gives its process id once it is ready."""
    command = [BINARY, "serve", "--listen", f"127.0.0.1:{PORT}", *flags]
    with ending(subprocess.Popen(command, env=environment)) as process:
        wait_for(lambda: get(f"http://127.0.0.1:{PORT}/health/ready"), process)
        yield process.pid


@contextlib.contextmanager
def ending(process):
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


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


def prepare(document, tokens, name=None):
    """Checks each tenant's answer, and writes what wrk sends to a file; gives that and the answers' length."""
    text = (ROOT / f"bench/documents/{document}.graphql").read_text().strip()
    lengths, lines = [], []
    for slug, token in tokens:
        variables = {}
        if document == "q1":
            first = ask(token, json.dumps({"query": "{ projects(first: 1) { nodes { id } } }"}))
            variables = {"id": json.loads(first)["data"]["projects"]["nodes"][0]["id"]}
        body = json.dumps({"query": text, "variables": variables})
        answer = ask(token, body)
        check(document, slug, json.loads(answer))
        lengths.append(len(answer))
        lines += [token, body]
    path = HOME / f"{name or document}.txt"
    path.write_text("\n".join([str(int(min(lengths) * 0.9)), *lines]) + "\n")
    return path, statistics.mean(lengths)


def check(document, slug, answer):
    assert "errors" not in answer, answer
    data = answer["data"]
    if document == "q1":
        assert data["project"]["name"]
    elif document in ("q2", "q3"):
        nodes = data["projects"]["nodes"]
        assert len(nodes) == 20, f"{slug}: {len(nodes)} projects"
        for node in nodes if document == "q3" else []:
            assert len(node["invoices"]["nodes"]) == 5 and len(node["auditLogs"]["nodes"]) == 10
            email = node["owner"]["email"]
            assert email.endswith((f"@{slug}.example", "@consulting.example")), f"{slug}: {email}"


class Load:
    """wrk, which sends what `prepare` wrote: as fast as it can, or with a mean pause between requests."""

    def __init__(self, path, connections, seconds, pause_ms=0):
        command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s",
                   "--timeout", "10s", "--script", ROOT / "bench/load.lua", f"http://127.0.0.1:{PORT}", "--",
                   path, str(pause_ms)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def result(self):
        """Requests, seconds, p50 and p99 in ms, refused (429), bad answers and socket errors."""
        out, _ = self.process.communicate()
        result = next(line for line in out.splitlines() if line.startswith("RESULT"))
        requests, micros, p50, p99, refused, bad = (float(part) for part in result.split()[1:])
        return requests, micros / 1e6, p50, p99, refused, bad
