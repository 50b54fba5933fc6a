/** Editor colors with enough contrast: GraphiQL's own comments and line numbers are too faint. */

import { useGraphiQL, useMonaco } from "@graphiql/react";
import { useEffect } from "react";

export const EDITOR_THEME = { dark: "palisade-dark", light: "palisade-light" };

const TRANSPARENT = "#ffffff00";

function colors(page: string, ink: string, accent: string, soft: string, faint: string) {
  return {
    "editor.background": TRANSPARENT,
    "scrollbar.shadow": TRANSPARENT,
    "editorLineNumber.foreground": faint,
    "editorLineNumber.dimmedForeground": faint,
    "editorHoverWidget.background": page,
    "editorSuggestWidget.background": page,
    "editorSuggestWidget.foreground": ink,
    "editorSuggestWidget.highlightForeground": accent,
    "editorSuggestWidget.selectedBackground": soft,
    "editorSuggestWidget.selectedForeground": ink,
    "editorSuggestWidget.selectedIconForeground": ink,
    "editorSuggestWidget.focusHighlightForeground": accent,
    "editorWidget.background": page,
    "menu.background": page,
    "quickInput.background": page,
    "list.hoverBackground": soft,
    "list.highlightForeground": accent,
    "textLink.foreground": accent,
    "textLink.activeForeground": accent,
    focusBorder: accent,
  };
}

/** Defines the themes when Monaco is loaded, and selects one again: GraphiQL selects it before it is defined. */
export function useEditorTheme() {
  const monaco = useMonaco((state) => state.monaco);
  const monacoTheme = useGraphiQL((state) => state.monacoTheme);
  useEffect(() => {
    if (!monaco) return;
    monaco.editor.defineTheme(EDITOR_THEME.dark, {
      base: "vs-dark",
      inherit: true,
      colors: colors("#212a3b", "#e4e8ef", "#79b0ff", "#33415c", "#9aa7b8"),
      rules: [
        { token: "comment", foreground: "9cc27f" },
        { token: "argument.identifier.gql", foreground: "a9a4ff" },
      ],
    });
    monaco.editor.defineTheme(EDITOR_THEME.light, {
      base: "vs",
      inherit: true,
      colors: colors("#ffffff", "#1f2530", "#1a5fc4", "#e3ecfa", "#556070"),
      rules: [
        { token: "comment", foreground: "2b6a1e" },
        { token: "number", foreground: "066043" },
        { token: "argument.identifier.gql", foreground: "5a56bd" },
      ],
    });
    if (monacoTheme) monaco.editor.setTheme(monacoTheme);
  }, [monaco, monacoTheme]);
}
