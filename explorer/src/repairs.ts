/**
 * What GraphiQL, its editor and its builder lack for people without a mouse or without eyes for it, put right in
 * the page: tabs that hold a second button, fields that only a click opens, inputs without names.
 * Each goes away once the library has it.
 */

type Repair = [selector: string, repair: (element: HTMLElement) => void];

function set(element: Element, name: string, value: string) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** The name of what an input of the builder is for. */
function argument(element: HTMLElement): string | undefined {
  return element.closest<HTMLElement>("[data-arg-name]")?.dataset.argName;
}

const REPAIRS: Repair[] = [
  // A tab may hold nothing to press but itself, and these hold the button that closes them: a list.
  [".graphiql-session-header [role=tablist]", (list) => set(list, "role", "list")],
  [
    ".graphiql-tab",
    (tab) => {
      set(tab, "role", "listitem");
      const button = tab.querySelector(".graphiql-tab-button");
      if (button) set(button, "aria-current", String(tab.classList.contains("graphiql-tab-active")));
      tab.removeAttribute("aria-selected");
    },
  ],
  ["#graphiql-session", (panel) => set(panel, "role", "region")],
  // Monaco gives the suggestion that is picked an id of its own and the list its old one.
  [
    ".suggest-widget [aria-activedescendant]",
    (list) => {
      const picked = list.querySelector(".focused");
      if (picked?.id) set(list, "aria-activedescendant", picked.id);
    },
  ],
  [".graphiql-explorer-root input", (input) => set(input, "aria-label", argument(input) ?? "Name of the operation")],
  [".graphiql-explorer-root select", (select) => set(select, "aria-label", argument(select) ?? "Kind of operation to add")],
  [
    ".graphiql-explorer-root :is([data-field-name], [data-arg-name] > span:first-child)",
    (field) => {
      set(field, "role", "button");
      set(field, "tabindex", "0");
      const mark = field.querySelector("svg");
      if (mark?.querySelector("circle")) set(field, "aria-pressed", String(Boolean(mark.querySelector("path"))));
      else if (mark) set(field, "aria-expanded", String(mark.style.transform !== ""));
    },
  ],
];

let planned = false;

function repair() {
  planned = false;
  for (const [selector, put] of REPAIRS) document.querySelectorAll<HTMLElement>(selector).forEach(put);
}

function plan() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(repair);
}

export function keepRepaired(root: HTMLElement) {
  new MutationObserver(plan).observe(root, {
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
