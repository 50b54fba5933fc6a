"""The floods of abuse.py: requests that one tenant sends in order to harm the others."""

import dataclasses
import json
import pathlib
from collections.abc import Callable

import clients
import lab

# The number of connections of a flood, unless the attack needs another number.
CONNECTIONS = 32
MAX_BODY_BYTES = 1024 * 1024
HEADLINE = (lab.DOCUMENTS_DIR / "q3.graphql").read_text().strip()
INTROSPECTION = """{ __schema { queryType { name } mutationType { name } types { kind name description
  fields(includeDeprecated: true) { name description args { name description type { ...T } defaultValue } type { ...T }
    isDeprecated deprecationReason }
  inputFields { name description type { ...T } defaultValue } interfaces { ...T }
  enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason } possibleTypes { ...T } }
  directives { name description locations args { name description type { ...T } defaultValue } } } }
fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }"""

# The rows that a tenant needs for a flood, by name. The newest comments are those of the flood.
DATA = {
    # 100 comments of 10,000 control characters on one project. In JSON, each character has six bytes.
    "control characters": """
        insert into comments (tenant_id, id, author_id, project_id, body)
            select :'tenant', gen_random_uuid(), :'owner', :'project', repeat(chr(1), 10000)
              from generate_series(1, 100)""",
    # 100 comments of 10,000 random Chinese characters on one project. They do not compress.
    "Chinese characters": """
        insert into comments (tenant_id, id, author_id, project_id, body)
            select :'tenant', gen_random_uuid(), :'owner', :'project',
                   (select string_agg(chr(19968 + floor(random() * 20000)::integer), '')
                      from generate_series(1, 10000) where n > 0)
              from generate_series(1, 100) as n""",
    "comments of a": """
        insert into comments (tenant_id, id, author_id, project_id, body)
            select :'tenant', gen_random_uuid(), :'owner', :'project', repeat('a', 10000)
              from generate_series(1, 200)""",
    # 100 comments of 10,000 characters of four bytes on each of 24 projects.
    "comments of crabs": """
        insert into comments (tenant_id, id, author_id, project_id, body)
            select :'tenant', gen_random_uuid(), :'owner', project.id, repeat('🦀', 10000)
              from (select id from projects where tenant_id = :'tenant' order by created_at desc limit 24) as project,
                   generate_series(1, 100)""",
    # The projects of the demo are newer.
    "100 projects": """
        insert into projects (tenant_id, id, organization_id, owner_id, name, created_at)
            select :'tenant', gen_random_uuid(), organization_id, :'owner', 'Project ' || n, timestamptz '2020-01-01Z'
              from projects, generate_series(25, 100) as n where tenant_id = :'tenant' and id = :'project'""",
    "100 invoices per project": """
        insert into invoices (tenant_id, id, organization_id, project_id, number, status, currency, subtotal_minor,
                              total_minor, issued_on, due_on)
            select :'tenant', gen_random_uuid(), organization_id, id, 'BENCH-' || row_number() over (), 'OPEN', 'EUR',
                   100, 100, date '2026-01-01', date '2026-01-31'
              from projects, generate_series(1, 100) where tenant_id = :'tenant'""",
}


@dataclasses.dataclass(frozen=True)
class Attacker:
    """A tenant that attacks, with a token for each role."""

    tokens: dict[str, str]
    # The IDs that the floods need, by the name of the variable in a document.
    project: str
    commented: str
    organization: str


@dataclasses.dataclass(frozen=True)
class Flood:
    """A request that is sent over many connections."""

    name: str
    # What the flood sends, for the documentation.
    title: str
    # Returns the body for an attacker. Without a body, the flood sends nothing.
    body: Callable[[Attacker], str] | None
    role: str = "VIEWER"
    connections: int = CONNECTIONS
    headers: tuple[str, ...] = ()
    # The names of the rows in DATA that the attacker needs.
    data: tuple[str, ...] = ()
    # Flags of the service.
    flags: tuple[str, ...] = ()
    # The mode of clients.py with its further arguments, or wrk.
    mode: str = "wrk"
    arguments: tuple[tuple[str, object], ...] = ()
    # How many bytes at the end of the request are not sent.
    unsent: int = 0
    # Whether the tokens have a wrong signature.
    invalid_token: bool = False

    def request(self, attacker):
        """Returns the bytes of the request."""
        if not self.body:
            return b""
        token = attacker.tokens[self.role]
        if self.invalid_token:
            # The signature has 32 bytes.
            token = f"{token.rpartition('.')[0]}.{'A' * 43}"
        request = clients.http_request(token, self.body(attacker), self.headers)
        return request[:len(request) - self.unsent]

    def wrk_command(self, path, port, connections, seconds):
        """Returns the command that sends the request in a file."""
        return ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s",
                "--timeout", "60s", "--script", lab.ROOT / "bench/abuse.lua", f"http://127.0.0.1:{port}", "--", path]

    def client_arguments(self, path, port, connections, seconds):
        """Returns the arguments of clients.py that send the request in a file."""
        return {"mode": self.mode, "request": str(path), "port": port, "connections": connections, "seconds": seconds,
                **dict(self.arguments)}


def client_command(mode, **arguments):
    """Returns the command that starts clients.py, and its standard input."""
    return ["python3", pathlib.Path(__file__).with_name("clients.py")], json.dumps({"mode": mode, **arguments})


def document(text, variables=None):
    """Returns a function that returns the body of a request with this document."""
    return lambda _: json.dumps({"query": text, "variables": variables or {}})


def names(count):
    """Returns a document of this many different, unknown fields with short names."""
    def name(number):
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"
        return (name(number // 36) if number >= 36 else "a") + digits[number % 36]
    return document("{" + " ".join(map(name, range(count))) + "}")


def aliases(count, field):
    return " ".join(f"a{number}: {field}" for number in range(count))


def fan_out(_):
    """A filter of 0.9 MB, used by 30 fields under 100 projects."""
    strings = [f"{number:05}".ljust(1000, "x") for number in range(100)]
    fields = aliases(30, "invoices(first: 0, filter: $filter) { pageInfo { hasNextPage } }")
    text = f"query ($filter: InvoiceFilter) {{ projects(first: 100) {{ nodes {{ {fields} }} }} }}"
    return json.dumps({"query": text, "variables": {"filter": {"or": [{"number": {"in": strings}}] * 9}}})


def long_response(columns):
    """Selects a column of 6 MB this many times."""
    fields = aliases(columns, "body")
    text = f"query ($id: ID!) {{ project(id: $id) {{ comments(first: 100) {{ nodes {{ {fields} }} }} }} }}"
    return lambda attacker: json.dumps({"query": text, "variables": {"id": attacker.commented}})


def kept_response(attacker):
    """A rejected change, whose response contains 30 MB of comments."""
    text = ("mutation ($input: UpdateProjectInput!) { updateProject(input: $input) { project { comments(first: 100) "
            f"{{ nodes {{ {aliases(10, 'body')} }} }} }} userErrors {{ code }} }} }}")
    return json.dumps({"query": text, "variables": {
        "input": {"id": attacker.commented, "ifVersion": 999_999, "name": "x"}}})


def kept_change(attacker):
    """A mutation that succeeds. Its response contains two comments of 30 KB."""
    text = ("mutation ($input: UpdateProjectInput!) { updateProject(input: $input) { project { comments(first: 2) "
            "{ nodes { body } } } userErrors { code } } }")
    return json.dumps({"query": text, "variables": {"input": {"id": attacker.commented, "status": "ACTIVE"}}})


def unfinished_body(_):
    start, end = '{"query":"{ __typename }","variables":{"a":"', '"}}'
    return start + "x" * (MAX_BODY_BYTES - len(start) - len(end)) + end


def contains(_):
    """Searches long texts 20 times for a string that almost occurs at each position."""
    fields = aliases(20, "comments(filter: { body: { contains: $string } }) { nodes { id } }")
    return json.dumps({"query": f"query ($string: String) {{ {fields} }}", "variables": {"string": "b" + "a" * 999}})


def long_invoice(attacker):
    """Creates an invoice of 500 lines 13 times, out of one variable."""
    fields = aliases(13, "createInvoice(input: $input) { userErrors { code } }")
    return json.dumps({"query": f"mutation ($input: CreateInvoiceInput!) {{ {fields} }}",
                       "variables": {"input": invoice_input(attacker.organization, 500)}})


def invoice_input(organization, lines):
    return {"organizationId": organization, "currencyCode": "EUR", "lineItems": [
        {"description": f"Line {number}", "quantity": "1", "unitPrice": "10.00"} for number in range(lines)]}


def long_columns(field):
    return document(f"{{ projects(first: 24) {{ nodes {{ comments(first: 100) {{ nodes {{ {field} }} }} }} }} }}")


BASELINE = Flood("headline", "the headline document", document(HEADLINE), role="OWNER")
KEY = ("Idempotency-Key: @UUID@",)
FLOODS = (
    BASELINE,
    Flood("rejected-documents", "a document of 48 KB with 9,990 names, which is rejected", names(9_990)),
    Flood("unknown-fields", "a document with 4,000 unknown root fields", names(4_000)),
    Flood("short-rejected-documents", "a document of 15 KB with 3,300 unknown root fields", names(3_300)),
    Flood("typename", "`{ __typename }`", document("{ __typename }")),
    Flood("invalid-tokens", "tokens with a wrong signature", document("{ __typename }"), invalid_token=True),
    Flood("introspection", "the introspection of the whole schema, where it is on", document(INTROSPECTION),
          flags=("--introspection",)),
    Flood("variables", "a filter of 0.9 MB in a variable, used by 30 fields under 100 parents", fan_out,
          data=("100 projects",)),
    Flood("slow-readers", "a response of 168 MB, read at 8 kB/s", long_response(28), data=("control characters",),
          mode="slow", arguments=(("bytes_per_second", 8000),)),
    Flood("brotli", "a response of 168 MB, compressed with Brotli and read fast", long_response(28),
          data=("control characters",), headers=("Accept-Encoding: br",), mode="replay"),
    Flood("short-slow-readers", "a response of 6 MB, read at 8 kB/s", long_response(1), data=("control characters",),
          connections=100, mode="slow", arguments=(("bytes_per_second", 8000),)),
    Flood("short-brotli", "a response of 6 MB, compressed with Brotli and read fast", long_response(1),
          data=("control characters",), headers=("Accept-Encoding: br",), mode="replay"),
    Flood("long-columns", "the IDs of 2,400 comments of 10,000 characters", long_columns("id"),
          data=("comments of crabs",)),
    Flood("long-bodies", "2,400 comments of 10,000 characters", long_columns("body"), data=("comments of crabs",),
          mode="replay"),
    Flood("contains", "`contains` over 200 comments of 10,000 characters, in 20 fields", contains,
          data=("comments of a",)),
    Flood("disconnects", "the headline document, cut after 1 to 10 ms", document(HEADLINE), role="OWNER", mode="cut",
          arguments=(("milliseconds", (1, 10)),)),
    Flood("kept-responses", "a rejected mutation with a response of 30 MB and an `Idempotency-Key`", kept_response,
          headers=KEY, data=("Chinese characters",), mode="replay"),
    Flood("kept-disconnects", "the mutation of kept-responses, cut after 0.5 to 1.6 s", kept_response,
          headers=KEY, data=("Chinese characters",), mode="cut", arguments=(("milliseconds", (500, 1600)),)),
    Flood("kept-changes", "a mutation with a response of 60 KB and an `Idempotency-Key`", kept_change, role="MEMBER",
          headers=KEY, data=("Chinese characters",), mode="replay"),
    Flood("long-invoices", "`createInvoice` with 500 lines, in 13 fields", long_invoice, role="BILLING"),
    Flood("idle-sockets", "connections that send nothing", None, connections=1005, mode="hold"),
    Flood("unfinished-bodies", "bodies of 1 MiB without their last 5 bytes", unfinished_body, connections=300,
          mode="hold", unsent=5),
)
