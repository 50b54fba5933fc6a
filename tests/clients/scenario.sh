#!/usr/bin/env bash
# The scenario of src/scenario.ts, with curl.
set -euo pipefail
cd "$(dirname "$0")"

token="$PALISADE_TOKEN_A"

# ask <operation> <variables as JSON> [<curl option>...]: the body of the answer
ask() {
    python3 -IS -c 'import json, sys
print(json.dumps({"query": open("documents/scenario.graphql").read(),
                  "operationName": "Scenario" + sys.argv[1], "variables": json.loads(sys.argv[2])}))' "$1" "$2" |
        curl --silent --show-error --max-time 20 "$PALISADE_GRAPHQL_URL" --data @- \
            -H 'Content-Type: application/json' ${token:+-H "Authorization: Bearer $token"} "${@:3}"
}

# get <path>: a part of the JSON on standard input, `get data.viewer.role`
get() {
    python3 -IS -c 'import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value[int(key)] if isinstance(value, list) else value.get(key)
print(value if isinstance(value, str) else json.dumps(value))' "$1"
}

# is <expected> <actual>
is() { [ "$1" = "$2" ] || { echo "expected $1, got $2" >&2; exit 1; }; }

for token in "" not.a.token; do
    is 401 "$(ask ViewerQuery '{}' --output /dev/null --write-out '%{http_code}')"
    is UNAUTHENTICATED "$(ask ViewerQuery '{}' | get errors.0.extensions.code)"
done
token="$PALISADE_TOKEN_A"

viewer="$(ask ViewerQuery '{}')"
is OWNER "$(get data.viewer.role <<<"$viewer")"
is acme "$(get data.viewer.tenant.slug <<<"$viewer")"
organization="$(get data.organizations.nodes.0.id <<<"$viewer")"

# Every page: each row once.
after=null seen=""
while :; do
    page="$(ask ProjectsQuery "{\"first\": 7, \"after\": $after}")"
    seen+="$(grep -o '"id": *"prj_[0-9a-f]*"' <<<"$page")"$'\n'
    total="$(get data.projects.totalCount <<<"$page")"
    [ "$(get data.projects.pageInfo.hasNextPage <<<"$page")" = true ] || break
    after="\"$(get data.projects.pageInfo.endCursor <<<"$page")\""
done
is "$total" "$(sort -u <<<"${seen%$'\n'}" | wc -l)"
is EUR "$(get data.projects.edges.0.node.invoices.nodes.0.total.currencyCode <<<"$page")"

# Created once, however often it is sent with the same key.
input="{\"input\": {\"name\": \"Made by curl\", \"organizationId\": \"$organization\"}}"
made="$(ask CreateMutation "$input" -H 'Idempotency-Key: scenario curl')"
is '[]' "$(get data.createProject.userErrors <<<"$made")"
id="$(get data.createProject.project.id <<<"$made")"
is "$id" "$(ask CreateMutation "$input" -H 'Idempotency-Key: scenario curl' | get data.createProject.project.id)"

# By its id: for its tenant, and for no other.
is 'Made by curl' "$(ask NodeQuery "{\"id\": \"$id\"}" | get data.node.name)"
is null "$(token="$PALISADE_TOKEN_B" && ask NodeQuery "{\"id\": \"$id\"}" | get data.node)"

# A change of the version that was seen; the same once more is a conflict.
change="{\"input\": {\"id\": \"$id\", \"ifVersion\": 1, \"description\": \"Changed\"}}"
is 2 "$(ask UpdateMutation "$change" | get data.updateProject.project.version)"
late="$(ask UpdateMutation "$change")"
is CONFLICT "$(get data.updateProject.userErrors.0.code <<<"$late")"
is 2 "$(get data.updateProject.project.version <<<"$late")"

refused="$(ask UpdateMutation "{\"input\": {\"id\": \"$id\", \"name\": \"\"}}")"
is REQUIRED "$(get data.updateProject.userErrors.0.code <<<"$refused")"
is '["input", "name"]' "$(get data.updateProject.userErrors.0.field <<<"$refused")"

is BAD_USER_INPUT "$(ask NodeQuery '{"id": "nonsense"}' | get errors.0.extensions.code)"

gone="{\"input\": {\"id\": \"$id\"}}"
is "$id" "$(ask DeleteMutation "$gone" | get data.deleteProject.project.id)"
is null "$(ask NodeQuery "{\"id\": \"$id\"}" | get data.node)"
is NOT_FOUND "$(ask DeleteMutation "$gone" | get data.deleteProject.userErrors.0.code)"
