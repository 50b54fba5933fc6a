/** The panel of example operations. */

import { useGraphiQL, useGraphiQLActions, type GraphiQLPlugin } from "@graphiql/react";
import type { GraphQLSchema } from "graphql";
import { useMemo, useState } from "react";

import { createExamples, readSampleRows, sampleRowsQuery, type Example, type SampleRows } from "./examples";
import { errorMessage } from "./server";
import { sendOperation, session } from "./session";
import { useStore } from "./store";

/** Fetches rows of the current tenant. The variables of the example contain values from these rows. */
async function fetchSampleRows(schema: GraphQLSchema, example: Example): Promise<SampleRows> {
  const query = sampleRowsQuery(schema, example.requiredRows);
  if (!query || !session.get().credentials) return {};
  const { body } = await sendOperation({ query });
  const { data, errors } = body as { data?: Record<string, unknown>; errors?: { message: string }[] };
  if (!data) throw new Error(errors?.[0]?.message ?? "no rows");
  return readSampleRows(data);
}

function ExamplesPanel() {
  const schema = useGraphiQL((state) => state.schema);
  const queryEditor = useGraphiQL((state) => state.queryEditor);
  const variableEditor = useGraphiQL((state) => state.variableEditor);
  const headerEditor = useGraphiQL((state) => state.headerEditor);
  const { addTab } = useGraphiQLActions();
  const { viewer, credentials } = useStore(session);
  const [search, setSearch] = useState("");
  const [notice, setNotice] = useState("");
  const groups = useMemo(() => (schema ? createExamples(schema) : []), [schema]);

  async function open(example: Example) {
    if (!schema) return;
    let rows: SampleRows = {};
    let result = `${example.title}: opened in a new tab.`;
    try {
      rows = await fetchSampleRows(schema, example);
    } catch (error) {
      result = `${example.title}: opened without real IDs (${errorMessage(error)}).`;
    }
    const headers = headerEditor?.getValue() ?? "";
    addTab();
    queryEditor?.setValue(example.document);
    const variables = example.variables(rows);
    variableEditor?.setValue(Object.keys(variables).length ? JSON.stringify(variables, null, 2) : "");
    // A new tab has no headers: copy those of the previous tab.
    headerEditor?.setValue(headers);
    queryEditor?.focus();
    setNotice(result);
  }

  const searchTerm = search.trim().toLowerCase();
  const matchingGroups = groups
    .map(({ name, examples }) => ({
      name,
      examples: examples.filter(({ title }) => !searchTerm || `${name} ${title}`.toLowerCase().includes(searchTerm)),
    }))
    .filter(({ examples }) => examples.length);

  return (
    <section aria-label="Examples" className="panel examples">
      <h2>Examples</h2>
      <p className="quiet">
        {viewer
          ? `Each example opens in a new tab, with IDs of ${viewer.tenant}.`
          : credentials
            ? "Each example opens in a new tab."
            : "Choose a tenant or paste a token to get examples with real IDs."}
      </p>
      <label className="field">
        <span>Find an example</span>
        <input type="search" value={search} onChange={(event) => setSearch(event.target.value)} placeholder="project, delete, node …" />
      </label>
      <p role="status" className="quiet notice">
        {notice}
      </p>
      {!schema && <p>Loading the schema …</p>}
      {schema && !matchingGroups.length && <p>No example matches.</p>}
      {matchingGroups.map(({ name, examples }, index) => (
        <details key={`${name} ${searchTerm && "found"}`} open={index < 1 || searchTerm !== ""}>
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

export const EXAMPLES_PANEL: GraphiQLPlugin = { title: "Examples", icon: Icon, content: ExamplesPanel };
