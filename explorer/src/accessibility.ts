/**
 * Fixes accessibility faults of GraphiQL, Monaco and the builder in the page: tabs that contain a second button,
 * fields that open only by a click, inputs without names. Remove a fix when the library itself has fixed the fault.
 */

type Fix = [selector: string, apply: (element: HTMLElement) => void];

function setAttribute(element: Element, name: string, value: string) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** The name of the argument that an input of the builder sets. */
function argumentName(element: HTMLElement): string | undefined {
  return element.closest<HTMLElement>("[data-arg-name]")?.dataset.argName;
}

const FIXES: Fix[] = [
  // A tab must not contain a button, but these contain a close button. Therefore, give them the roles of a list.
  [".graphiql-session-header [role=tablist]", (list) => setAttribute(list, "role", "list")],
  [
    ".graphiql-tab",
    (tab) => {
      setAttribute(tab, "role", "listitem");
      const button = tab.querySelector(".graphiql-tab-button");
      if (button) setAttribute(button, "aria-current", String(tab.classList.contains("graphiql-tab-active")));
      tab.removeAttribute("aria-selected");
    },
  ],
  ["#graphiql-session", (panel) => setAttribute(panel, "role", "region")],
  // Monaco changes the id of the focused suggestion, but the list still refers to the old id.
  [
    ".suggest-widget [aria-activedescendant]",
    (list) => {
      const focused = list.querySelector(".focused");
      if (focused?.id) setAttribute(list, "aria-activedescendant", focused.id);
    },
  ],
  [".graphiql-explorer-root input", (input) => setAttribute(input, "aria-label", argumentName(input) ?? "Name of the operation")],
  [".graphiql-explorer-root select", (select) => setAttribute(select, "aria-label", argumentName(select) ?? "Kind of operation to add")],
  [
    ".graphiql-explorer-root :is([data-field-name], [data-arg-name] > span:first-child)",
    (field) => {
      setAttribute(field, "role", "button");
      setAttribute(field, "tabindex", "0");
      const icon = field.querySelector("svg");
      if (icon?.querySelector("circle")) setAttribute(field, "aria-pressed", String(Boolean(icon.querySelector("path"))));
      else if (icon) setAttribute(field, "aria-expanded", String(icon.style.transform !== ""));
    },
  ],
];

let isScheduled = false;

function applyFixes() {
  isScheduled = false;
  for (const [selector, apply] of FIXES) document.querySelectorAll<HTMLElement>(selector).forEach(apply);
}

function schedule() {
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(applyFixes);
}

/** Applies the fixes after each change of the page. Lets Enter and Space press the fields of the builder. */
export function keepAccessible(root: HTMLElement) {
  new MutationObserver(schedule).observe(root, {
    childList: true,
    subtree: true,
    attributes: true,
    attributeFilter: ["aria-selected", "aria-activedescendant"],
  });
  root.addEventListener("keydown", (event) => {
    const field = event.target;
    if (!(field instanceof HTMLElement) || !field.matches(".graphiql-explorer-root [role=button]")) return;
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    field.click();
  });
}
