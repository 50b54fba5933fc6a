import { explorerPlugin } from "@graphiql/plugin-explorer";
import { GraphiQL, HISTORY_PLUGIN } from "graphiql";

import { Bar } from "./Bar";
import { EDITOR_THEME } from "./editor-theme";
import { EXAMPLES_PANEL } from "./ExamplesPanel";
import { fetcher } from "./fetcher";
import { LastRun, SQL_PANEL } from "./SqlPanel";

const WELCOME_QUERY = `# Shows who you are. Run it with the button or Ctrl+Enter. The panel "Examples" has more operations.
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

/** Colors for the query builder. Its default colors have too little contrast on white. */
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

// A constant, because GraphiQL compares plugins by identity.
const PLUGINS = [EXAMPLES_PANEL, SQL_PANEL, explorerPlugin({ showAttribution: false, colors: BUILDER_COLORS }), HISTORY_PLUGIN];

export function App() {
  return (
    <GraphiQL
      fetcher={fetcher}
      editorTheme={EDITOR_THEME}
      plugins={PLUGINS}
      visiblePlugin={EXAMPLES_PANEL}
      defaultQuery={WELCOME_QUERY}
      defaultHeaders="{}"
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
