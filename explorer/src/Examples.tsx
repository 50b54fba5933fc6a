/** The panel of generated operations. */

import { useGraphiQL, useGraphiQLActions, type GraphiQLPlugin } from "@graphiql/react";
import type { GraphQLSchema } from "graphql";
import { useMemo, useState } from "react";

import { examplesOf, rowsIn, rowsQuery, type Example, type Rows } from "./examples";
import { reason } from "./server";
import { post, session } from "./session";
import { useStore } from "./store";

/** Rows of the picked tenant for the variables. Without them the example still opens. */
async function find(schema: GraphQLSchema, example: Example): Promise<Rows> {
  const query = rowsQuery(schema, example.needs);
  if (!query || !session.get().held) return {};
  const { body } = await post({ query });
  const answer = body as { data?: Record<string, unknown>; errors?: { message: string }[] };
  if (!answer.data) throw new Error(answer.errors?.[0]?.message ?? "no rows");
  return rowsIn(answer.data);
}

function Examples() {
  const schema = useGraphiQL((state) => state.schema);
  const queryEditor = useGraphiQL((state) => state.queryEditor);
  const variableEditor = useGraphiQL((state) => state.variableEditor);
  const headerEditor = useGraphiQL((state) => state.headerEditor);
  const { addTab } = useGraphiQLActions();
  const { viewer, held } = useStore(session);
  const [search, setSearch] = useState("");
  const [said, say] = useState("");
  const groups = useMemo(() => (schema ? examplesOf(schema) : []), [schema]);

  async function open(example: Example) {
    if (!schema) return;
    let rows: Rows = {};
    let note = `${example.title}: opened in a new tab.`;
    try {
      rows = await find(schema, example);
    } catch (error) {
      note = `${example.title}: opened without real ids (${reason(error)}).`;
    }
    const headers = headerEditor?.getValue() ?? "";
    addTab();
    queryEditor?.setValue(example.document);
    const variables = example.variables(rows);
    variableEditor?.setValue(Object.keys(variables).length ? JSON.stringify(variables, null, 2) : "");
    // What somebody set for one operation they want for the next, too.
    headerEditor?.setValue(headers);
    queryEditor?.focus();
    say(note);
  }

  const word = search.trim().toLowerCase();
  const shown = groups
    .map(({ name, examples }) => ({
      name,
      examples: examples.filter(({ title }) => !word || `${name} ${title}`.toLowerCase().includes(word)),
    }))
    .filter(({ examples }) => examples.length);

  return (
    <section aria-label="Examples" className="panel examples">
      <h2>Examples</h2>
      <p className="quiet">
        {viewer
          ? `Each opens in a tab of its own, with ids of ${viewer.tenant}.`
          : held
            ? "Each opens in a tab of its own."
            : "Pick a tenant or paste a token, and they come with real ids."}
      </p>
      <label className="field">
        <span>Find an example</span>
        <input type="search" value={search} onChange={(event) => setSearch(event.target.value)} placeholder="project, delete, node …" />
      </label>
      <p role="status" className="quiet said">
        {said}
      </p>
      {!schema && <p>Reading the schema …</p>}
      {schema && !shown.length && <p>No example is called that.</p>}
      {shown.map(({ name, examples }, index) => (
        <details key={`${name} ${word && "found"}`} open={index < 1 || word !== ""}>
          <summary>
            {name} <span className="quiet">{examples.length}</span>
          </summary>
          <ul>
            {examples.map((example) => (
              <li key={example.title}>
                <button type="button" className={`example ${example.kind}`} onClick={() => void open(example)}>
                  <span className="kind">{example.kind}</span>
                  {example.title}
                </button>
              </li>
            ))}
          </ul>
        </details>
      ))}
    </section>
  );
}

function Icon() {
  return (
    <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.5" aria-hidden="true">
      <path d="M4 5h16M4 10h10M4 15h16M4 20h7" strokeLinecap="round" />
    </svg>
  );
}

export const EXAMPLES: GraphiQLPlugin = { title: "Examples", icon: Icon, content: Examples };
