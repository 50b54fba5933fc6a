import { explorerPlugin } from "@graphiql/plugin-explorer";
import { GraphiQL, HISTORY_PLUGIN } from "graphiql";

import { Bar } from "./Bar";
import { EDITOR_THEME } from "./editor-theme";
import { EXAMPLES } from "./Examples";
import { fetcher } from "./fetcher";
import { LastRun, SQL } from "./Sql";

const WELCOME = `# Who you are. Run it with the button or Ctrl+Enter; more is in the panel "Examples".
query WhoAmI {
  viewer {
    role
    tenant {
      name
      slug
    }
    user {
      id
      email
    }
  }
}
`;

const HEADERS = "{}";

/** Those of the builder are too faint on white. */
const BUILDER_COLORS = {
  keyword: "var(--accent)",
  def: "var(--ink)",
  property: "var(--accent)",
  qualifier: "var(--quiet)",
  attribute: "var(--good)",
  number: "var(--good)",
  string: "var(--change)",
  builtin: "var(--good)",
  string2: "var(--quiet)",
  variable: "var(--change)",
  atom: "var(--good)",
};

// Made once: GraphiQL compares plugins by identity.
const plugins = [EXAMPLES, SQL, explorerPlugin({ showAttribution: false, colors: BUILDER_COLORS }), HISTORY_PLUGIN];

export function App() {
  return (
    <GraphiQL
      fetcher={fetcher}
      editorTheme={EDITOR_THEME}
      plugins={plugins}
      visiblePlugin={EXAMPLES}
      defaultQuery={WELCOME}
      defaultHeaders={HEADERS}
      defaultEditorToolsVisibility="variables"
      shouldPersistHeaders
      showPersistHeadersSettings={false}
      inputValueDeprecation
    >
      <GraphiQL.Logo>
        <span />
      </GraphiQL.Logo>
      <GraphiQL.Footer>
        <LastRun />
      </GraphiQL.Footer>
      <Bar />
    </GraphiQL>
  );
}
