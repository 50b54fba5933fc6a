/** The bar above GraphiQL: the user, the dry run and the color theme. */

import { useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import { useEffect, useRef, useState, type FormEvent } from "react";
import { createPortal } from "react-dom";

import { useEditorTheme } from "./editor-theme";
import { offersUsers } from "./server";
import { defaultUser, session, signInAs, signInWithToken, signOut } from "./session";
import { useStore } from "./store";
import { setDryRun, settings } from "./trace";

const ANY_ROLE = "any";

function UserPicker() {
  const { tenants, credentials } = useStore(session);
  const [role, setRole] = useState(ANY_ROLE);
  const choice = credentials?.choice;
  const tenant = tenants.find(({ slug }) => slug === choice?.tenant);
  const roles = [...new Set(tenant?.people.map((user) => user.role))];
  const roleFilter = roles.includes(role) ? role : ANY_ROLE;
  const users = tenant?.people.filter((user) => roleFilter === ANY_ROLE || user.role === roleFilter) ?? [];
  const currentUser = tenant?.people.find(({ email }) => email === choice?.user);

  function signInWithRole(slug: string, role: string | undefined) {
    const tenant = tenants.find((tenant) => tenant.slug === slug);
    const user = tenant && defaultUser(tenant, role);
    if (tenant && user) void signInAs({ tenant: tenant.slug, user: user.email });
  }

  return (
    <>
      <label>
        <span>Tenant</span>
        <select value={choice?.tenant ?? ""} onChange={(event) => signInWithRole(event.target.value, currentUser?.role)}>
          {!choice && <option value="">Choose …</option>}
          {tenants.map((tenant) => (
            <option key={tenant.slug} value={tenant.slug} disabled={!defaultUser(tenant)}>
              {tenant.name}
            </option>
          ))}
        </select>
      </label>
      <label>
        <span>Role</span>
        <select
          value={roleFilter}
          disabled={!tenant}
          onChange={(event) => {
            setRole(event.target.value);
            if (tenant && event.target.value !== ANY_ROLE) signInWithRole(tenant.slug, event.target.value);
          }}
        >
          <option value={ANY_ROLE}>any</option>
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
          onChange={(event) => tenant && void signInAs({ tenant: tenant.slug, user: event.target.value })}
        >
          {!choice && <option value="">Choose …</option>}
          {users.map((user) => (
            <option key={user.email} value={user.email} disabled={user.status !== "ACTIVE"}>
              {`${user.email}, ${user.role}${user.status === "ACTIVE" ? "" : `, ${user.status}`}`}
            </option>
          ))}
        </select>
      </label>
    </>
  );
}

function TokenForm() {
  const { credentials, tenants } = useStore(session);
  const [open, setOpen] = useState(!offersUsers && !credentials);
  const [input, setInput] = useState("");
  const isPasted = credentials && !credentials.choice;

  function submit(event: FormEvent) {
    event.preventDefault();
    const token = input.trim().replace(/^bearer\s+/i, "");
    if (!token) return;
    setInput("");
    setOpen(false);
    void signInWithToken(token);
  }

  function dropToken() {
    const tenant = tenants[0];
    const user = tenant && defaultUser(tenant);
    if (tenant && user) void signInAs({ tenant: tenant.slug, user: user.email });
    else signOut();
  }

  if (!open) {
    return (
      <>
        <button type="button" onClick={() => setOpen(true)}>
          Paste a token
        </button>
        {isPasted && (
          <button type="button" onClick={dropToken}>
            {tenants.length ? "Choose a user instead" : "Sign out"}
          </button>
        )}
      </>
    );
  }
  return (
    <form onSubmit={submit} className="token-form">
      <label>
        <span>Token</span>
        <input
          type="password"
          autoComplete="off"
          spellCheck={false}
          value={input}
          onChange={(event) => setInput(event.target.value)}
          placeholder="Paste a bearer token"
        />
      </label>
      <button type="submit">Use token</button>
      {credentials && (
        <button type="button" onClick={() => setOpen(false)}>
          Cancel
        </button>
      )}
    </form>
  );
}

/** Shows the current user, or the reason why no user is signed in. */
function ViewerStatus() {
  const { viewer, error, credentials } = useStore(session);
  // If the picker already shows the user, show this status only to screen readers.
  const isInPicker = viewer && credentials?.choice && offersUsers;
  return (
    <p role="status" className={error ? "viewer bad" : isInPicker ? "viewer hidden" : "viewer"}>
      {error ?? (viewer ? `${viewer.tenant}: ${viewer.user}, ${viewer.role}` : credentials ? "Checking the token …" : "Not signed in")}
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

/** Clears the responses when the user changes, so that the page never shows rows of another tenant. */
function useClearedResponses() {
  const { generation } = useStore(session);
  const responseEditor = useGraphiQL((state) => state.responseEditor);
  const tabs = useGraphiQL((state) => state.tabs);
  const { updateActiveTabValues } = useGraphiQLActions();
  const clearedGeneration = useRef(generation);
  useEffect(() => {
    if (clearedGeneration.current === generation) return;
    clearedGeneration.current = generation;
    // GraphiQL has no action for inactive tabs. It reads their responses when they become active.
    for (const tab of tabs) tab.response = null;
    responseEditor?.setValue("");
    updateActiveTabValues({ response: null });
  }, [generation, tabs, responseEditor, updateActiveTabValues]);
}

export function Bar() {
  const { dryRun } = useStore(settings);
  useClearedResponses();
  useEditorTheme();
  return createPortal(
    <>
      <span className="product">Palisade</span>
      {offersUsers && <UserPicker />}
      <TokenForm />
      <ViewerStatus />
      <label className="check" title="Rolls mutations back at their end (sends the header Prefer: tx=rollback)">
        <input type="checkbox" checked={dryRun} onChange={(event) => setDryRun(event.target.checked)} />
        <span>Dry run</span>
      </label>
      <Theme />
    </>,
    document.getElementById("bar")!,
  );
}
