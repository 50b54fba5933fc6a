/** The bar above GraphiQL: as whom one asks, the dry run, light and dark. */

import { useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import { useEffect, useRef, useState, type FormEvent } from "react";
import { createPortal } from "react-dom";

import { useEditorTheme } from "./editor-theme";
import { offersPeople } from "./server";
import { ableFirst, leave, paste, pick, session } from "./session";
import { useStore } from "./store";
import { setDryRun, settings } from "./trace";

const ANY = "any";

function Picker() {
  const { tenants, held } = useStore(session);
  const [role, setRole] = useState(ANY);
  const choice = held?.choice;
  const tenant = tenants.find(({ slug }) => slug === choice?.tenant);
  const roles = [...new Set(tenant?.people.map((person) => person.role))];
  const wanted = roles.includes(role) ? role : ANY;
  const people = tenant?.people.filter((person) => wanted === ANY || person.role === wanted) ?? [];
  const present = tenant?.people.find(({ email }) => email === choice?.user);

  function enter(slug: string, role: string | undefined) {
    const tenant = tenants.find((tenant) => tenant.slug === slug);
    const person = tenant && ableFirst(tenant, role);
    if (tenant && person) void pick({ tenant: tenant.slug, user: person.email });
  }

  return (
    <>
      <label>
        <span>Tenant</span>
        <select value={choice?.tenant ?? ""} onChange={(event) => enter(event.target.value, present?.role)}>
          {!choice && <option value="">Choose …</option>}
          {tenants.map((tenant) => (
            <option key={tenant.slug} value={tenant.slug} disabled={!ableFirst(tenant)}>
              {tenant.name}
            </option>
          ))}
        </select>
      </label>
      <label>
        <span>Role</span>
        <select
          value={wanted}
          disabled={!tenant}
          onChange={(event) => {
            setRole(event.target.value);
            if (tenant && event.target.value !== ANY) enter(tenant.slug, event.target.value);
          }}
        >
          <option value={ANY}>any</option>
          {roles.map((role) => (
            <option key={role} value={role}>
              {role}
            </option>
          ))}
        </select>
      </label>
      <label>
        <span>User</span>
        <select
          value={choice?.user ?? ""}
          disabled={!tenant}
          onChange={(event) => tenant && void pick({ tenant: tenant.slug, user: event.target.value })}
        >
          {!choice && <option value="">Choose …</option>}
          {people.map((person) => (
            <option key={person.email} value={person.email} disabled={person.status !== "ACTIVE"}>
              {`${person.email}, ${person.role}${person.status === "ACTIVE" ? "" : `, ${person.status}`}`}
            </option>
          ))}
        </select>
      </label>
    </>
  );
}

function Paste() {
  const { held, tenants } = useStore(session);
  const [open, setOpen] = useState(!offersPeople && !held);
  const [token, setToken] = useState("");
  const pasted = held && !held.choice;

  function submit(event: FormEvent) {
    event.preventDefault();
    const plain = token.trim().replace(/^bearer\s+/i, "");
    if (!plain) return;
    setToken("");
    setOpen(false);
    void paste(plain);
  }

  function back() {
    const tenant = tenants[0];
    const person = tenant && ableFirst(tenant);
    if (tenant && person) void pick({ tenant: tenant.slug, user: person.email });
    else leave();
  }

  if (!open) {
    return (
      <>
        <button type="button" onClick={() => setOpen(true)}>
          Paste a token
        </button>
        {pasted && (
          <button type="button" onClick={back}>
            {tenants.length ? "Pick instead" : "Forget it"}
          </button>
        )}
      </>
    );
  }
  return (
    <form onSubmit={submit} className="paste">
      <label>
        <span>Token</span>
        <input
          type="password"
          autoComplete="off"
          spellCheck={false}
          value={token}
          onChange={(event) => setToken(event.target.value)}
          placeholder="Paste a bearer token"
        />
      </label>
      <button type="submit">Use it</button>
      {held && (
        <button type="button" onClick={() => setOpen(false)}>
          Cancel
        </button>
      )}
    </form>
  );
}

function Who() {
  const { viewer, trouble, held } = useStore(session);
  // Where the picker shows it already, it is only said.
  const look = trouble ? "who bad" : viewer && held?.choice && offersPeople ? "who hidden" : "who";
  return (
    <p role="status" className={look}>
      {trouble ?? (viewer ? `${viewer.tenant}: ${viewer.user}, ${viewer.role}` : held ? "Asking who this is …" : "Nobody yet")}
    </p>
  );
}

function Theme() {
  const theme = useGraphiQL((state) => state.theme);
  const { setTheme } = useGraphiQLActions();
  return (
    <label>
      <span>Theme</span>
      <select
        value={theme ?? "system"}
        onChange={({ target: { value } }) => setTheme(value === "light" || value === "dark" ? value : null)}
      >
        <option value="system">system</option>
        <option value="light">light</option>
        <option value="dark">dark</option>
      </select>
    </label>
  );
}

/** An answer of one tenant must not stand beside the name of another. */
function useClearedAnswers() {
  const { era } = useStore(session);
  const responseEditor = useGraphiQL((state) => state.responseEditor);
  const tabs = useGraphiQL((state) => state.tabs);
  const { updateActiveTabValues } = useGraphiQLActions();
  const seen = useRef(era);
  useEffect(() => {
    if (seen.current === era) return;
    seen.current = era;
    // The tabs in the background have no action of their own; their answers are read when they come up.
    for (const tab of tabs) tab.response = null;
    responseEditor?.setValue("");
    updateActiveTabValues({ response: null });
  }, [era, tabs, responseEditor, updateActiveTabValues]);
}

export function Bar() {
  const { dryRun } = useStore(settings);
  useClearedAnswers();
  useEditorTheme();
  return createPortal(
    <>
      <span className="mark">Palisade</span>
      {offersPeople && <Picker />}
      <Paste />
      <Who />
      <label className="check" title="Mutations are undone at their end: the header Prefer: tx=rollback">
        <input type="checkbox" checked={dryRun} onChange={(event) => setDryRun(event.target.checked)} />
        <span>Dry run</span>
      </label>
      <Theme />
    </>,
    document.getElementById("bar")!,
  );
}
