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


class ScenarioClient:
    """A client that sends a token, or none. The client first validates every document against the schema."""

    def __init__(self, token=None):
        self.token = token
        self.client = Client(schema=SCHEMA, transport=RequestsHTTPTransport(url=URL))

    def execute(self, operation, variables=None, headers=None):
        request = GraphQLRequest(DOCUMENT, variable_values=variables, operation_name=f"Scenario{operation}")
        return self.client.execute(request, extra_args={"headers": bearer(self.token) | (headers or {})})


def codes(payload):
    return [error["code"] for error in payload["userErrors"]]


def assert_equal(actual, expected):
    assert actual == expected, f"expected {expected!r}, got {actual!r}"


def assert_error(execute, code):
    try:
        execute()
    except TransportQueryError as error:
        assert_equal([each["extensions"]["code"] for each in error.errors], [code])
    else:
        raise AssertionError(f"expected the error {code}, got none")


def scenario():
    client = ScenarioClient(os.environ["PALISADE_TOKEN_A"])

    # The service rejects requests without a token and with an invalid token.
    for token in None, "not.a.token":
        assert_error(lambda: ScenarioClient(token).execute("ViewerQuery"), "UNAUTHENTICATED")

    data = client.execute("ViewerQuery")
    viewer = data["viewer"]
    assert_equal([viewer["role"], viewer["tenant"]["slug"], viewer["user"]["email"]], ["OWNER", "acme", "olivia@acme.example"])
    organization = data["organizations"]["nodes"][0]["id"]

    # All pages: each row appears once, the cursors match, the invoices are nested in their projects.
    ids, invoices, after = [], 0, None
    while True:
        page = client.execute("ProjectsQuery", {"first": 7, "after": after})["projects"]
        edges, info = page["edges"], page["pageInfo"]
        assert_equal([info["startCursor"], info["endCursor"]], [edges[0]["cursor"], edges[-1]["cursor"]])
        assert_equal(info["hasPreviousPage"], after is not None)
        for edge in edges:
            ids.append(edge["node"]["id"])
            for invoice in edge["node"]["invoices"]["nodes"]:
                assert_equal(invoice["number"] is None, invoice["status"] == "DRAFT")
                assert re.fullmatch(r"\d+\.\d\d", invoice["total"]["amount"])
                assert_equal(invoice["total"]["currencyCode"], "EUR")
                invoices += 1
        assert_equal(info["hasNextPage"], len(ids) < page["totalCount"])
        if not info["hasNextPage"]:
            break
        after = info["endCursor"]
    assert_equal(len(set(ids)), len(ids))
    assert len(ids) > 7 and invoices > 0

    # Two requests with the same idempotency key create one project.
    name = f"Created by {NAME}"
    creation = {"input": {"name": name, "organizationId": organization, "dueOn": "2030-02-28"}}
    key = {"Idempotency-Key": f"scenario {NAME}"}
    payload = client.execute("CreateMutation", creation, key)["createProject"]
    assert_equal(codes(payload), [])
    project = payload["project"]
    assert_equal([project["name"], project["version"], project["description"], project["dueOn"]], [name, 1, None, "2030-02-28"])
    project_id = project["id"]
    assert_equal(client.execute("CreateMutation", creation, key)["createProject"]["project"]["id"], project_id)
    found = client.execute("ProjectsQuery", {"first": 7, "filter": {"name": {"eq": name}}})["projects"]
    assert_equal([edge["node"]["id"] for edge in found["edges"]], [project_id])

    # Only the project's own tenant can read the project by its ID.
    assert_equal(client.execute("NodeQuery", {"id": project_id})["node"]["name"], name)
    assert_equal(ScenarioClient(os.environ["PALISADE_TOKEN_B"]).execute("NodeQuery", {"id": project_id})["node"], None)

    # An update of the current version succeeds. The repeated update is a conflict and returns the current row.
    change = {"id": project_id, "ifVersion": 1, "description": "Changed"}
    payload = client.execute("UpdateMutation", {"input": change})["updateProject"]
    assert_equal([codes(payload), payload["project"]["version"]], [[], 2])
    payload = client.execute("UpdateMutation", {"input": change | {"description": "Late"}})["updateProject"]
    assert_equal([codes(payload), payload["project"]["description"]], [["CONFLICT"], "Changed"])

    # A user error names its field, and the mutation writes nothing.
    payload = client.execute("UpdateMutation", {"input": {"id": project_id, "name": ""}})["updateProject"]
    assert_equal([payload["project"], payload["userErrors"][0]["field"]], [None, ["input", "name"]])
    assert_equal(codes(payload), ["REQUIRED"])

    # An invalid variable is an error of the request, not a user error.
    assert_error(lambda: client.execute("NodeQuery", {"id": "nonsense"}), "BAD_USER_INPUT")

    payload = client.execute("DeleteMutation", {"input": {"id": project_id, "ifVersion": 2}})["deleteProject"]
    assert_equal([codes(payload), payload["project"]["id"]], [[], project_id])
    assert_equal(client.execute("NodeQuery", {"id": project_id})["node"], None)
    assert_equal(codes(client.execute("DeleteMutation", {"input": {"id": project_id}})["deleteProject"]), ["NOT_FOUND"])


scenario()
