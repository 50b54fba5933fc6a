// The explorer: an operation, its variables, its answer, and the schema to read beside them.
"use strict";

const $ = (id) => document.getElementById(id);
const HEADLINE = `query Projects($first: Int = 5) {
  projects(first: $first) {
    totalCount
    nodes {
      id name status
      organization { id name }
      owner { id email displayName }
      invoices(first: 3) { nodes { id number status total { amount currencyCode } } }
      auditLogs(first: 3) { nodes { id action occurredAt actor { ... on User { id email } } } }
    }
    pageInfo { hasNextPage endCursor }
  }
}`;
const INTROSPECTION = `{ __schema { types { name kind description
  fields { name description type { ...T } args { name type { ...T } } }
  inputFields { name description type { ...T } } enumValues { name description } } } }
  fragment T on __Type { name kind ofType { name kind ofType { name kind ofType { name kind } } } }`;

async function ask(query, variables) {
  const response = await fetch("/graphql", {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "palisade-trace": "1",
      authorization: `Bearer ${$("token").value.trim()}`,
    },
    body: JSON.stringify({ query, variables }),
  });
  return response.json();
}

async function run() {
  let variables;
  try {
    variables = JSON.parse($("variables").value.trim() || "{}");
  } catch (error) {
    $("answer").textContent = `The variables are not JSON: ${error.message}`;
    return;
  }
  const query = $("query").value;
  try {
    const answer = await ask(query, variables);
    const cost = answer.extensions?.palisade;
    $("cost").textContent = cost ? `· ${cost.roundTrips} round trips, ${cost.statements.length} statements` : "";
    $("answer").textContent = JSON.stringify(answer, null, 2);
  } catch (error) {
    $("answer").textContent = `No answer: ${error.message}`;
  }
}

const typeText = (type) =>
  type.kind === "NON_NULL" ? `${typeText(type.ofType)}!` : type.kind === "LIST" ? `[${typeText(type.ofType)}]` : type.name;

function element(name, text, ...children) {
  const made = document.createElement(name);
  made.textContent = text ?? "";
  made.append(...children);
  return made;
}

function showSchema(types, wanted) {
  const word = wanted.trim().toLowerCase();
  const has = (named) => named.name.toLowerCase().includes(word);
  const members = (type) => [...(type.fields ?? []), ...(type.inputFields ?? []), ...(type.enumValues ?? [])];
  const shown = types.filter((type) => !type.name.startsWith("__") && (!word || has(type) || members(type).some(has)));
  $("schema").replaceChildren(...shown.map((type) => {
    const list = element("dl");
    for (const member of members(type)) {
      const args = member.args?.length ? `(${member.args.map((arg) => `${arg.name}: ${typeText(arg.type)}`).join(", ")})` : "";
      list.append(element("dt", `${member.name}${args}${member.type ? `: ${typeText(member.type)}` : ""}`), element("dd", member.description));
    }
    const details = element("details", "", element("summary", type.name), element("p", type.description), list);
    details.open = word !== "" && shown.length < 6;
    return details;
  }));
}

let types = [];
async function enter() {
  const token = $("token").value.trim();
  sessionStorage.setItem("token", token);
  $("who").textContent = "";
  types = [];
  if (token) {
    const known = await ask("{ viewer { role user { email } tenant { name } } }", {}).catch(() => ({}));
    const viewer = known.data?.viewer;
    $("who").textContent = viewer
      ? `${viewer.tenant?.name}: ${viewer.user?.email}, ${viewer.role}`
      : known.errors?.[0]?.message ?? "no answer";
    if (viewer) types = (await ask(INTROSPECTION, {})).data?.__schema?.types ?? [];
  }
  showSchema(types, $("search").value);
}

const fromAddress = new URLSearchParams(location.hash.slice(1)).get("token");
if (fromAddress) history.replaceState(null, "", location.pathname);
$("token").value = fromAddress ?? sessionStorage.getItem("token") ?? "";
$("query").value = sessionStorage.getItem("query") ?? HEADLINE;
$("variables").value = sessionStorage.getItem("variables") ?? "{}";
$("token").addEventListener("change", enter);
$("search").addEventListener("input", () => showSchema(types, $("search").value));
for (const id of ["query", "variables"]) $(id).addEventListener("input", () => sessionStorage.setItem(id, $(id).value));
$("run").addEventListener("click", run);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
});
// Whoever comes with a token sees rows at once.
enter().then(() => types.length && run());
