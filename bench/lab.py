"""Shared by the measurements: a private PostgreSQL with bench data, the service, tokens, wrk.

All files are below target/bench. The data is created once and takes some minutes: 200 tenants, 20,000
projects, 200,000 invoices, a million audit log entries.
"""

import base64
import contextlib
import dataclasses
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/palisade"
BENCH_DIR = ROOT / "target/bench"
DOCUMENTS_DIR = ROOT / "bench/documents"
# Projects per tenant, and invoices and audit log entries per project.
PROJECTS, INVOICES, AUDIT_LOGS = 100, 10, 50
# `palisade dev` creates the first tenants. They have less data, so no measurement uses them.
DEV_TENANTS = 3
# Document M1 adds projects. Therefore, only M1 uses the last tenants.
WRITERS = 20


@contextlib.contextmanager
def database(tenants, data_dir=BENCH_DIR / "dev", pg_bin=None):
    """Starts PostgreSQL and creates the data. Yields the environment for `palisade serve`."""
    with dev_database(data_dir, pg_bin) as environment:
        create_data(data_dir, tenants, pg_bin)
        # Vacuum now, so that autovacuum does not run during a measurement.
        query(environment["PALISADE_OWNER_DATABASE_URL"], "vacuum analyze")
        yield environment


@contextlib.contextmanager
def dev_database(data_dir, pg_bin=None):
    """Starts `palisade dev`: PostgreSQL with the demo tenants. Yields the environment for `palisade serve`. `pg_bin` is a
    directory with the programs of PostgreSQL; without it, `palisade dev` finds them.
    """
    BENCH_DIR.mkdir(parents=True, exist_ok=True)
    log = (BENCH_DIR / "dev.log").open("w")
    command = [BINARY, "dev", "--data-dir", data_dir, "--listen", "127.0.0.1:0", *pg_bin_option(pg_bin)]
    with terminating(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)) as process:
        settings = dev_settings(data_dir, process)
        yield {**os.environ, "PALISADE_LOG": "warn", **settings,
               "DATABASE_URL": settings["PALISADE_APP_DATABASE_URL"]}


def dev_settings(data_dir, process):
    """Waits until `palisade dev` is ready. Returns the variables in its dev.env."""
    path = data_dir / "dev.env"
    path.unlink(missing_ok=True)
    wait_for(path.exists, process)
    lines = (line.removeprefix("export ").split("=", 1) for line in path.read_text().splitlines())
    return {name: value.strip("'") for name, value in lines}


def pg_bin_option(directory):
    return ["--pg-bin", directory] if directory else []


def create_data(data_dir, tenants, pg_bin=None):
    command = [BINARY, "demo", "--data-dir", data_dir, "--tenants", tenants, "--projects", PROJECTS,
               "--invoices", INVOICES, "--audit-logs", AUDIT_LOGS, *pg_bin_option(pg_bin)]
    subprocess.run([str(part) for part in command], check=True)


@dataclasses.dataclass
class Server:
    """A running GraphQL server. A server with another schema than Palisade's has its own directory of documents."""

    name: str
    port: int
    pid: int
    documents: pathlib.Path = DOCUMENTS_DIR

    def execute(self, token, body, headers=()):
        """Returns the response to a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request("POST", "/graphql", body, {
                "Authorization": f"Bearer {token}", "Content-Type": "application/json", **dict(headers)})
            response = connection.getresponse()
            content = response.read()
            assert response.status == 200, content
            return content
        finally:
            connection.close()

    def is_ready(self, token):
        """Whether the server runs an operation."""
        try:
            return b"errors" not in self.execute(token, '{"query":"{__typename}"}')
        except OSError:
            return False


@contextlib.contextmanager
def service(environment, *flags, wrapper=(), log=None):
    """Starts `palisade serve` with these flags, under the command `wrapper` if given. Writes the log to the file `log`
    if given. Yields the ready server.
    """
    port = free_port()
    command = [*wrapper, BINARY, "serve", "--listen", f"127.0.0.1:{port}", *flags]
    # Otherwise the health checks would take the next port, which may not be free.
    environment = environment | {"PALISADE_HEALTH_LISTEN": "127.0.0.1:0"}
    with terminating(subprocess.Popen(command, env=environment, stderr=log)) as process:
        server = Server("Palisade", port, process.pid)
        wait_for(lambda: server.is_ready(environment["PALISADE_TOKEN_A"]), process)
        yield server


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def terminating(process):
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def wait_for(ready, process=None, seconds=120):
    deadline = time.monotonic() + seconds
    while not ready():
        if process and process.poll() is not None:
            sys.exit(f"a process exited before it was ready; see {BENCH_DIR}/dev.log")
        if time.monotonic() > deadline:
            sys.exit(f"a process was not ready after {seconds} seconds")
        time.sleep(0.05)


def query(url, sql, variables=()):
    """Runs SQL with the variables of psql. Returns the rows, as lists of strings."""
    settings = {"ON_ERROR_STOP": 1, **dict(variables)}
    command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--field-separator=\t",
               *(f"--set={name}={value}" for name, value in settings.items()), f"--dbname={url}"]
    out = subprocess.run(command, input=sql, check=True, stdout=subprocess.PIPE, text=True,
                         env={**os.environ, "PGOPTIONS": "--client-min-messages=error"}).stdout
    return [line.split("\t") for line in out.splitlines()]


@dataclasses.dataclass(frozen=True)
class Tenant:
    """A tenant with the token of its owner."""

    slug: str
    id: str
    user: str
    token: str


def load_tenants(environment, count):
    """Returns two lists of the tenants that `create_data` created: those for queries, and those for M1."""
    rows = query(environment["PALISADE_ADMIN_DATABASE_URL"], """
        select tenants.slug, tenants.id, users.id from tenants
          join users on users.tenant_id = tenants.id and users.role = 'OWNER'""")
    by_slug = {slug: (tenant, user) for slug, tenant, user in rows}
    secret = environment["PALISADE_JWT_SECRET"]
    tenants = [Tenant(slug, *by_slug[slug], create_token(secret, *by_slug[slug]))
               for slug in map(tenant_slug, range(DEV_TENANTS, count))]
    return tenants[:-WRITERS], tenants[-WRITERS:]


class Contexts:
    """Writes signed contexts. They stay valid for a week, because a script of pgbench has a fixed context."""

    KEY = hashlib.sha256(b"palisade bench").digest()
    MAX_AGE_MS = 7 * 86_400_000

    def __init__(self, environment):
        inner, outer = (bytes(byte ^ pad for byte in self.KEY.ljust(64, b"\0")).hex() for pad in (0x36, 0x5C))
        url = environment["PALISADE_OWNER_DATABASE_URL"]
        ids = {key: pad for key, pad in query(url, "select id, encode(inner_pad, 'hex') from app.context_keys")}
        self.id = next(key for key in ("be", "bf") if ids.get(key, inner) == inner)
        query(url, f"""insert into app.context_keys (id, inner_pad, outer_pad, max_age)
                       values ('{self.id}', '\\x{inner}', '\\x{outer}', {self.MAX_AGE_MS}) on conflict do nothing""")

    def of_owner(self, tenant, purpose="r"):
        """Returns a context of the tenant's owner: for reading (r) or writing (w)."""
        ids = "".join(value.replace("-", "") for value in (tenant.id, tenant.user))
        message = f"01{self.id}{int(time.time() * 1000):013d}{ids}O{purpose}{'0' * 32}"
        return message + hmac.digest(self.KEY, message.encode(), hashlib.sha256).hex()


def tenant_slug(number):
    """Returns the slug of the demo tenant with this number."""
    companies = ["acme", "globex", "initech", "umbrella", "hooli", "stark", "wayne", "wonka", "tyrell",
                 "cyberdyne", "soylent", "aperture"]
    series, name = number // len(companies), companies[number % len(companies)]
    return name if series == 0 else f"{name}-{series + 1}"


def create_token(secret, tenant, user):
    """Returns a token that is valid for one day."""
    now = int(time.time())
    claims = {"sub": user, "tenant_id": tenant, "iss": "palisade", "aud": "palisade", "exp": now + 86_400, "iat": now}
    message = b".".join(encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    signature = hmac.digest(secret.encode(), message, hashlib.sha256)
    return (message + b"." + encode(signature)).decode()


def encode(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def request_body(server, document, tenant):
    """Returns the body of a request that runs a document for a tenant."""
    text = (server.documents / f"{document}.graphql").read_text().strip()
    return json.dumps({"query": text, "variables": variables(server, document, tenant)})


def variables(server, document, tenant):
    if document == "q1":
        return {"id": first_id(server, "projects", tenant)}
    if document == "m1":
        return project_input(first_id(server, "organizations", tenant))
    return {}


def first_id(server, field, tenant):
    body = json.dumps({"query": f"{{ {field}(first: 1) {{ nodes {{ id }} }} }}"})
    return json.loads(server.execute(tenant.token, body))["data"][field]["nodes"][0]["id"]


def project_input(organization):
    """Returns the variables of document M1."""
    return {"input": {"organizationId": organization, "name": "Measured project", "status": "ACTIVE",
                      "description": "Created by the benchmark.", "dueOn": "2026-12-31"}}


def prepare(server, document, tenants, name=None):
    """Checks the response for each tenant and writes the file that load.lua reads. Returns the file."""
    responses, lines = [], []
    for tenant in tenants:
        body = request_body(server, document, tenant)
        response = server.execute(tenant.token, body)
        check(document, tenant.slug, json.loads(response))
        responses.append(response)
        lines += [tenant.token, body]
    return write_requests(name or document, document, lines, responses)


def write_requests(name, document, lines, responses):
    path = BENCH_DIR / f"{name}.txt"
    path.write_text("\n".join([str(int(min(map(len, responses)) * 0.9)), *lines]) + "\n")
    expected = path.with_suffix(".txt.expected")
    expected.unlink(missing_ok=True)
    # Each response of a mutation contains a new ID, so there is no list of expected responses.
    if document != "m1":
        assert not any(b"\n" in response for response in responses)
        expected.write_bytes(b"\n".join(responses) + b"\n")
    return path


def check(document, slug, response):
    assert "errors" not in response, response
    data = response["data"]
    if document == "q1":
        assert data["project"]["name"]
    elif document == "m1":
        assert data["createProject"]["project"] and not data["createProject"]["userErrors"], data
    elif document in ("q2", "q3"):
        nodes = data["projects"]["nodes"]
        assert len(nodes) == 20, f"{slug}: {len(nodes)} projects"
        for node in nodes if document == "q3" else []:
            assert len(node["invoices"]["nodes"]) == 5 and len(node["auditLogs"]["nodes"]) == 10
            email = node["owner"]["email"]
            assert email.endswith((f"@{slug}.example", "@consulting.example")), f"{slug}: {email}"


def write_docs(section, content, page="performance"):
    """Replaces a generated section of a page of the docs."""
    path = ROOT / f"docs/{page}.md"
    begin, end = f"<!-- begin {section} -->\n", f"<!-- end {section} -->\n"
    before, rest = path.read_text().split(begin)
    _, after = rest.split(end)
    path.write_text(before + begin + content + end + after)


def provenance():
    """Returns the date and the commit that last changed the service, for the docs."""
    service = ["--", "src", "migrations", "Cargo.toml", "Cargo.lock"]
    commit = git("log", "-1", "--format=%h", *service)
    changed = " with changes" if git("status", "--porcelain", *service) else ""
    return f"{time.strftime('%Y-%m-%d', time.gmtime())}, commit {commit}{changed}"


def git(*arguments):
    return subprocess.run(["git", "-C", ROOT, *arguments], check=True, capture_output=True, text=True).stdout.strip()


class Load:
    """A running wrk that sends the requests in a file of `prepare`. `pause_ms` is the mean pause of a connection
    between two requests. Without a pause, wrk sends as fast as it can.
    """

    def __init__(self, server, path, connections, seconds, pause_ms=0):
        command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s",
                   "--timeout", "10s", "--script", ROOT / "bench/load.lua", f"http://127.0.0.1:{server.port}", "--",
                   path, str(pause_ms)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def result(self):
        """Waits for wrk. Returns the number of requests, the seconds, p50 and p99 in ms, the number of rejections (429)
        and the number of bad responses and socket errors.
        """
        out, _ = self.process.communicate()
        result = next(line for line in out.splitlines() if line.startswith("RESULT"))
        requests, microseconds, p50, p99, rejected, bad = (float(part) for part in result.split()[1:])
        return requests, microseconds / 1e6, p50, p99, rejected, bad
