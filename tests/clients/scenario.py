"""The scenario of src/scenario.ts, with the Python library gql."""

import os
import re
from pathlib import Path

from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportQueryError
from gql.transport.requests import RequestsHTTPTransport
from graphql import parse

HERE = Path(__file__).parent
SCHEMA = (HERE / "../../schema.graphql").read_text()
DOCUMENT = parse((HERE / "documents/scenario.graphql").read_text())
URL = os.environ["PALISADE_GRAPHQL_URL"]
NAME = "gql"


def bearer(token):
    return {"Authorization": f"Bearer {token}"} if token else {}


class Service:
    """A client for a token, or for nobody. Every document is checked against the schema first."""

    def __init__(self, token=None):
        self.token = token
        self.client = Client(schema=SCHEMA, transport=RequestsHTTPTransport(url=URL))

    def ask(self, operation, variables=None, headers=None):
        request = GraphQLRequest(DOCUMENT, variable_values=variables, operation_name=f"Scenario{operation}")
        return self.client.execute(request, extra_args={"headers": bearer(self.token) | (headers or {})})


def codes(payload):
    return [error["code"] for error in payload["userErrors"]]


def equal(left, right):
    assert left == right, f"{left!r} is not {right!r}"


def refused(ask, code):
    try:
        ask()
    except TransportQueryError as error:
        equal([one["extensions"]["code"] for one in error.errors], [code])
    else:
        raise AssertionError(f"no {code}")


def scenario():
    service = Service(os.environ["PALISADE_TOKEN_A"])

    # Without a token, and with one that proves nothing.
    for token in None, "not.a.token":
        refused(lambda: Service(token).ask("ViewerQuery"), "UNAUTHENTICATED")

    answer = service.ask("ViewerQuery")
    viewer = answer["viewer"]
    equal([viewer["role"], viewer["tenant"]["slug"], viewer["user"]["email"]], ["OWNER", "acme", "olivia@acme.example"])
    organization = answer["organizations"]["nodes"][0]["id"]

    # Every page: each row once, cursors that fit, invoices in it.
    seen, invoices, after = [], 0, None
    while True:
        page = service.ask("ProjectsQuery", {"first": 7, "after": after})["projects"]
        edges, info = page["edges"], page["pageInfo"]
        equal([info["startCursor"], info["endCursor"]], [edges[0]["cursor"], edges[-1]["cursor"]])
        equal(info["hasPreviousPage"], after is not None)
        for edge in edges:
            seen.append(edge["node"]["id"])
            for invoice in edge["node"]["invoices"]["nodes"]:
                equal(invoice["number"] is None, invoice["status"] == "DRAFT")
                assert re.fullmatch(r"\d+\.\d\d", invoice["total"]["amount"])
                equal(invoice["total"]["currencyCode"], "EUR")
                invoices += 1
        equal(info["hasNextPage"], len(seen) < page["totalCount"])
        if not info["hasNextPage"]:
            break
        after = info["endCursor"]
    equal(len(set(seen)), len(seen))
    assert len(seen) > 7 and invoices > 0

    # Created once, however often it is sent with the same key.
    title = f"Made by {NAME}"
    made = {"input": {"name": title, "organizationId": organization, "dueOn": "2030-02-28"}}
    key = {"Idempotency-Key": f"scenario {NAME}"}
    payload = service.ask("CreateMutation", made, key)["createProject"]
    equal(codes(payload), [])
    project = payload["project"]
    equal([project["name"], project["version"], project["description"], project["dueOn"]], [title, 1, None, "2030-02-28"])
    id = project["id"]
    equal(service.ask("CreateMutation", made, key)["createProject"]["project"]["id"], id)
    found = service.ask("ProjectsQuery", {"first": 7, "filter": {"name": {"eq": title}}})["projects"]
    equal([edge["node"]["id"] for edge in found["edges"]], [id])

    # By its id: for its tenant, and for no other.
    equal(service.ask("NodeQuery", {"id": id})["node"]["name"], title)
    equal(Service(os.environ["PALISADE_TOKEN_B"]).ask("NodeQuery", {"id": id})["node"], None)

    # A change of the version that was seen; the same once more is a conflict, and shows what is there.
    change = {"id": id, "ifVersion": 1, "description": "Changed"}
    payload = service.ask("UpdateMutation", {"input": change})["updateProject"]
    equal([codes(payload), payload["project"]["version"]], [[], 2])
    payload = service.ask("UpdateMutation", {"input": change | {"description": "Late"}})["updateProject"]
    equal([codes(payload), payload["project"]["description"]], [["CONFLICT"], "Changed"])

    # A refusal names its field and writes nothing.
    payload = service.ask("UpdateMutation", {"input": {"id": id, "name": ""}})["updateProject"]
    equal([payload["project"], payload["userErrors"][0]["field"]], [None, ["input", "name"]])
    equal(codes(payload), ["REQUIRED"])

    # A variable that cannot be used is an error of the request.
    refused(lambda: service.ask("NodeQuery", {"id": "nonsense"}), "BAD_USER_INPUT")

    payload = service.ask("DeleteMutation", {"input": {"id": id, "ifVersion": 2}})["deleteProject"]
    equal([codes(payload), payload["project"]["id"]], [[], id])
    equal(service.ask("NodeQuery", {"id": id})["node"], None)
    equal(codes(service.ask("DeleteMutation", {"input": {"id": id}})["deleteProject"]), ["NOT_FOUND"])


scenario()
