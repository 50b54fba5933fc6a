"""Shared by the measurements: a private PostgreSQL with bench data, the service, tokens, wrk.

All files are below target/bench. The data is created once and takes some minutes: 200 tenants, 20,000
projects, 200,000 invoices, a million audit log entries.
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
BENCH_DIR = ROOT / "target/bench"
PORT = 8091
# Projects per tenant, and invoices and audit log entries per project.
PROJECTS, INVOICES, AUDIT_LOGS = 100, 10, 50


@contextlib.contextmanager
def database(tenants):
    """Starts PostgreSQL and creates the data. Yields the environment for `palisade serve`."""
    BENCH_DIR.mkdir(parents=True, exist_ok=True)
    log = (BENCH_DIR / "dev.log").open("w")
    command = [BINARY, "dev", "--data-dir", BENCH_DIR / "dev", "--listen", "127.0.0.1:0"]
    with terminating(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)) as process:
        settings = dev_settings(process)
        create_data(tenants)
        yield {**os.environ, "PALISADE_LOG": "warn", **settings,
               "DATABASE_URL": settings["PALISADE_APP_DATABASE_URL"]}


@contextlib.contextmanager
def service(environment, *flags):
    """Starts `palisade serve` with these flags. Yields its process ID when it is ready."""
    command = [BINARY, "serve", "--listen", f"127.0.0.1:{PORT}", *flags]
    with terminating(subprocess.Popen(command, env=environment)) as process:
        wait_for(lambda: get(f"http://127.0.0.1:{PORT}/health/ready"), process)
        yield process.pid


@contextlib.contextmanager
def terminating(process):
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def dev_settings(process):
    """Waits until `palisade dev` is ready. Returns the variables in its dev.env."""
    path = BENCH_DIR / "dev/dev.env"
    path.unlink(missing_ok=True)
    wait_for(path.exists, process)
    lines = (line.removeprefix("export ").split("=", 1) for line in path.read_text().splitlines())
    return {name: value.strip("'") for name, value in lines}


def wait_for(ready, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            sys.exit(f"a process exited before it was ready; see {BENCH_DIR}/dev.log")
        if time.monotonic() > deadline:
            sys.exit(f"a process was not ready after {seconds} seconds")
        time.sleep(0.05)


def get(url):
    try:
        with urllib.request.urlopen(url) as response:
            return response.read()
    except OSError:
        return None


def create_data(tenants):
    command = [BINARY, "demo", "--data-dir", BENCH_DIR / "dev", "--tenants", tenants, "--projects", PROJECTS,
               "--invoices", INVOICES, "--audit-logs", AUDIT_LOGS]
    subprocess.run([str(part) for part in command], check=True)


def create_tokens(tenants):
    """Returns the slug and a token of each tenant that `create_data` created. The three tenants of `palisade dev` have
    less data, so they are left out.
    """
    companies = ["Acme", "Globex", "Initech", "Umbrella", "Hooli", "Stark", "Wayne", "Wonka", "Tyrell",
                 "Cyberdyne", "Soylent", "Aperture"]
    tokens = []
    for number in range(3, tenants):
        series, name = number // len(companies), companies[number % len(companies)].lower()
        slug = name if series == 0 else f"{name}-{series + 1}"
        command = [BINARY, "token", "--data-dir", BENCH_DIR / "dev", "--tenant", slug,
                   "--user", f"olivia@{slug}.example", "--expires", "1d"]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        tokens.append((slug, out.splitlines()[-1]))
    return tokens


def execute(token, body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/graphql", body.encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        return response.read()


def prepare(document, tokens, name=None):
    """Checks the response for each tenant and writes the file that load.lua reads. Returns the file and the mean length
    of the responses.
    """
    text = (ROOT / f"bench/documents/{document}.graphql").read_text().strip()
    lengths, lines = [], []
    for slug, token in tokens:
        variables = {}
        if document == "q1":
            first = execute(token, json.dumps({"query": "{ projects(first: 1) { nodes { id } } }"}))
            variables = {"id": json.loads(first)["data"]["projects"]["nodes"][0]["id"]}
        body = json.dumps({"query": text, "variables": variables})
        response = execute(token, body)
        check(document, slug, json.loads(response))
        lengths.append(len(response))
        lines += [token, body]
    path = BENCH_DIR / f"{name or document}.txt"
    path.write_text("\n".join([str(int(min(lengths) * 0.9)), *lines]) + "\n")
    return path, statistics.mean(lengths)


def check(document, slug, response):
    assert "errors" not in response, response
    data = response["data"]
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
    """A running wrk that sends the requests in a file of `prepare`. Without a pause it sends as fast as it can;
    `pause_ms` is the mean pause of a connection between two requests.
    """

    def __init__(self, path, connections, seconds, pause_ms=0):
        command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s",
                   "--timeout", "10s", "--script", ROOT / "bench/load.lua", f"http://127.0.0.1:{PORT}", "--",
                   path, str(pause_ms)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def result(self):
        """Waits for wrk. Returns the number of requests, the seconds, p50 and p99 in ms, the number of rejections (429) and
        the number of bad responses and socket errors.
        """
        out, _ = self.process.communicate()
        result = next(line for line in out.splitlines() if line.startswith("RESULT"))
        requests, microseconds, p50, p99, rejected, bad = (float(part) for part in result.split()[1:])
        return requests, microseconds / 1e6, p50, p99, rejected, bad
