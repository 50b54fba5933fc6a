#!/usr/bin/env bash
# The scenario of src/scenario.ts, with curl.
set -euo pipefail
cd "$(dirname "$0")"

token="$PALISADE_TOKEN_A"

# execute <operation> <variables as JSON> [<curl option>...]: prints the response body
execute() {
    python3 -IS -c 'import json, sys
print(json.dumps({"query": open("documents/scenario.graphql").read(),
                  "operationName": "Scenario" + sys.argv[1], "variables": json.loads(sys.argv[2])}))' "$1" "$2" |
        curl --silent --show-error --max-time 20 "$PALISADE_GRAPHQL_URL" --data @- \
            -H 'Content-Type: application/json' ${token:+-H "Authorization: Bearer $token"} "${@:3}"
}

# get <path>: prints a part of the JSON on standard input, as in `get data.viewer.role`
get() {
    python3 -IS -c 'import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value[int(key)] if isinstance(value, list) else value.get(key)
print(value if isinstance(value, str) else json.dumps(value))' "$1"
}

# assert_equal <expected> <actual>
assert_equal() { [ "$1" = "$2" ] || { echo "expected $1, got $2" >&2; exit 1; }; }

for token in "" not.a.token; do
    assert_equal 401 "$(execute ViewerQuery '{}' --output /dev/null --write-out '%{http_code}')"
    assert_equal UNAUTHENTICATED "$(execute ViewerQuery '{}' | get errors.0.extensions.code)"
done
token="$PALISADE_TOKEN_A"

viewer="$(execute ViewerQuery '{}')"
assert_equal OWNER "$(get data.viewer.role <<<"$viewer")"
assert_equal acme "$(get data.viewer.tenant.slug <<<"$viewer")"
organization="$(get data.organizations.nodes.0.id <<<"$viewer")"

# All pages: each row appears once.
after=null ids=""
while :; do
    page="$(execute ProjectsQuery "{\"first\": 7, \"after\": $after}")"
    ids+="$(grep -o '"id": *"prj_[0-9a-f]*"' <<<"$page")"$'\n'
    total="$(get data.projects.totalCount <<<"$page")"
    [ "$(get data.projects.pageInfo.hasNextPage <<<"$page")" = true ] || break
    after="\"$(get data.projects.pageInfo.endCursor <<<"$page")\""
done
assert_equal "$total" "$(sort -u <<<"${ids%$'\n'}" | wc -l)"
assert_equal EUR "$(get data.projects.edges.0.node.invoices.nodes.0.total.currencyCode <<<"$page")"

# Two requests with the same idempotency key create one project.
input="{\"input\": {\"name\": \"Created by curl\", \"organizationId\": \"$organization\"}}"
created="$(execute CreateMutation "$input" -H 'Idempotency-Key: scenario curl')"
assert_equal '[]' "$(get data.createProject.userErrors <<<"$created")"
id="$(get data.createProject.project.id <<<"$created")"
assert_equal "$id" "$(execute CreateMutation "$input" -H 'Idempotency-Key: scenario curl' | get data.createProject.project.id)"

# Only the project's own tenant can read the project by its ID.
assert_equal 'Created by curl' "$(execute NodeQuery "{\"id\": \"$id\"}" | get data.node.name)"
assert_equal null "$(token="$PALISADE_TOKEN_B" && execute NodeQuery "{\"id\": \"$id\"}" | get data.node)"

# An update of the current version succeeds. The repeated update is a conflict.
update="{\"input\": {\"id\": \"$id\", \"ifVersion\": 1, \"description\": \"Changed\"}}"
assert_equal 2 "$(execute UpdateMutation "$update" | get data.updateProject.project.version)"
conflict="$(execute UpdateMutation "$update")"
assert_equal CONFLICT "$(get data.updateProject.userErrors.0.code <<<"$conflict")"
assert_equal 2 "$(get data.updateProject.project.version <<<"$conflict")"

# A user error names its field.
invalid="$(execute UpdateMutation "{\"input\": {\"id\": \"$id\", \"name\": \"\"}}")"
assert_equal REQUIRED "$(get data.updateProject.userErrors.0.code <<<"$invalid")"
assert_equal '["input", "name"]' "$(get data.updateProject.userErrors.0.field <<<"$invalid")"

assert_equal BAD_USER_INPUT "$(execute NodeQuery '{"id": "nonsense"}' | get errors.0.extensions.code)"

deletion="{\"input\": {\"id\": \"$id\"}}"
assert_equal "$id" "$(execute DeleteMutation "$deletion" | get data.deleteProject.project.id)"
assert_equal null "$(execute NodeQuery "{\"id\": \"$id\"}" | get data.node)"
assert_equal NOT_FOUND "$(execute DeleteMutation "$deletion" | get data.deleteProject.userErrors.0.code)"
