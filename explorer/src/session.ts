/** The session: the user who runs the operations, chosen in the picker or identified by a pasted token. */

import { createToken, errorMessage, fetchJson, fetchTenants, offersUsers, type Tenant } from "./server";
import { createStore, loadItem, saveItem } from "./store";
import { runs } from "./trace";

/** The user chosen in the picker. */
export interface Choice {
  /** The tenant's slug. */
  tenant: string;
  /** The user's email address. */
  user: string;
}

/** The user of the token, as the API's field `viewer` returns it. */
export interface Viewer {
  /** The tenant's name. */
  tenant: string;
  /** The tenant's slug. */
  slug: string;
  /** The user's email address. */
  user: string;
  role: string;
}

interface Credentials {
  token: string;
  /** The time at which the token expires. Unknown for a token that was pasted or in the URL. */
  expiresAt?: string;
  /** The user whom the picker shows. Missing if the token was pasted, or if its user is not in the picker. */
  choice?: Choice;
}

interface Session {
  tenants: Tenant[];
  credentials: Credentials | undefined;
  viewer: Viewer | undefined;
  /** The reason why there is no token, or why the server rejected the token. */
  error: string | undefined;
  /** Increases with each change of user. A response is shown only if this number has not changed since the request. */
  generation: number;
}

/** A token is replaced this many milliseconds before it expires. */
const RENEWAL_MARGIN_MS = 60_000;
const VIEWER_QUERY = "query ExplorerViewer { viewer { role tenant { name slug } user { email } } }";

export const session = createStore<Session>({
  tenants: [],
  credentials: loadItem<Credentials>(sessionStorage, "token"),
  viewer: undefined,
  error: undefined,
  generation: 0,
});

/** Aborts the requests of the current user when the user changes. */
let requests = new AbortController();

/** Changes the user. Without credentials, no user is signed in. */
function changeUser(credentials?: Credentials) {
  requests.abort();
  requests = new AbortController();
  saveItem(sessionStorage, "token", credentials);
  // The last run belongs to the previous user.
  runs.set({ last: undefined });
  session.set({ credentials, error: undefined, viewer: undefined, generation: session.get().generation + 1 });
}

/** Signs in with the token in the URL's fragment. Returns whether there is one. */
function signInFromUrl(): boolean {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return false;
  // People copy URLs, so remove the token from the URL. The browser's history already contains the token.
  history.replaceState(null, "", location.pathname + location.search);
  changeUser({ token });
  return true;
}

/** Restores the session from the URL, the list of users and browser storage. */
export async function startSession() {
  // A second link with a token may be opened in the same tab.
  addEventListener("hashchange", () => {
    if (signInFromUrl()) void loadViewer().then(selectViewerInPicker);
  });
  const fromUrl = signInFromUrl();
  if (offersUsers) {
    try {
      session.set({ tenants: await fetchTenants() });
    } catch (error) {
      session.set({ error: errorMessage(error) });
      return;
    }
  }
  const { credentials } = session.get();
  if (credentials && !credentials.choice) {
    await loadViewer();
    if (fromUrl) selectViewerInPicker();
    return;
  }
  const previous = credentials?.choice ?? loadItem<Choice>(localStorage, "choice");
  const isValid = previous !== undefined && isSelectable(previous);
  const choice = isValid ? previous : defaultChoice();
  if (!choice) return;
  if (credentials && isValid) await loadViewer();
  else await signInAs(choice);
}

/** Selects the user of a token in the picker, if the picker has this user. */
function selectViewerInPicker() {
  const { viewer, tenants, credentials } = session.get();
  const tenant = tenants.find((tenant) => tenant.slug === viewer?.slug);
  if (!viewer || !tenant || !credentials) return;
  const choice = { tenant: tenant.slug, user: viewer.user };
  if (!isSelectable(choice)) return;
  saveItem(localStorage, "choice", choice);
  const withChoice = { ...credentials, choice };
  saveItem(sessionStorage, "token", withChoice);
  session.set({ credentials: withChoice });
}

function isSelectable(choice: Choice): boolean {
  const tenant = session.get().tenants.find((tenant) => tenant.slug === choice.tenant);
  return tenant?.people.some((user) => user.email === choice.user && user.status === "ACTIVE") ?? false;
}

function defaultChoice(): Choice | undefined {
  for (const tenant of session.get().tenants) {
    const user = defaultUser(tenant);
    if (user) return { tenant: tenant.slug, user: user.email };
  }
  return undefined;
}

/** Returns the user to select in a tenant: the first active user with `role`, else an owner, else any. */
export function defaultUser(tenant: Tenant, role?: string) {
  const active = tenant.people.filter((user) => user.status === "ACTIVE");
  return active.find((user) => user.role === role) ?? active.find((user) => user.role === "OWNER") ?? active[0];
}

/** Signs in as a user of the picker. */
export async function signInAs(choice: Choice) {
  saveItem(localStorage, "choice", choice);
  changeUser();
  const { generation } = session.get();
  try {
    const token = await createToken(choice.tenant, choice.user);
    if (session.get().generation !== generation) return;
    changeUser({ ...token, choice });
    await loadViewer();
  } catch (error) {
    if (session.get().generation === generation) session.set({ error: errorMessage(error) });
  }
}

export async function signInWithToken(token: string) {
  changeUser({ token });
  await loadViewer();
}

export function signOut() {
  changeUser();
}

/** Fetches the user of the token from the API. */
async function loadViewer() {
  const { generation } = session.get();
  try {
    const { body } = await sendOperation({ query: VIEWER_QUERY });
    if (session.get().generation !== generation) return;
    const { data, errors } = body as {
      data?: { viewer?: { role: string; tenant?: { name: string; slug: string }; user?: { email: string } } };
      errors?: { message: string }[];
    };
    if (data?.viewer) {
      const { tenant, user, role } = data.viewer;
      const viewer = { tenant: tenant?.name ?? "?", slug: tenant?.slug ?? "", user: user?.email ?? "?", role };
      session.set({ viewer, error: undefined });
    } else {
      session.set({ error: `The server rejected the token: ${errors?.[0]?.message ?? "it gave no reason"}` });
    }
  } catch (error) {
    if (session.get().generation === generation) session.set({ error: errorMessage(error) });
  }
}

/**
 * Returns the token to send. If the picker shows the user, the token is replaced first when it expires soon or `renew`
 * is true. Returns undefined if the user changed in the meantime.
 */
async function currentToken(renew: boolean): Promise<string | undefined> {
  const { credentials, generation } = session.get();
  if (!credentials?.choice || !offersUsers) return credentials?.token;
  const expiresAt = credentials.expiresAt ? Date.parse(credentials.expiresAt) : Infinity;
  if (!renew && expiresAt - Date.now() > RENEWAL_MARGIN_MS) return credentials.token;
  const token = await createToken(credentials.choice.tenant, credentials.choice.user);
  if (session.get().generation !== generation) return undefined;
  const renewed = { ...token, choice: credentials.choice };
  saveItem(sessionStorage, "token", renewed);
  session.set({ credentials: renewed });
  return renewed.token;
}

/** Sends a GraphQL operation as the current user. `extraHeaders` come from the headers editor. */
export async function sendOperation(
  operation: object,
  extraHeaders: HeadersInit = {},
): Promise<{ response: Response; body: unknown }> {
  const send = async (renew: boolean) => {
    const headers = new Headers(extraHeaders);
    const { signal } = requests;
    const token = await currentToken(renew);
    // The user may have changed while the token was created.
    signal.throwIfAborted();
    // Override a token in the headers editor. Otherwise, the page could name one tenant and show rows of another.
    if (token) headers.set("authorization", `Bearer ${token}`);
    headers.set("content-type", "application/json");
    headers.set("accept", "application/graphql-response+json, application/json;q=0.9");
    return fetchJson("/graphql", {
      method: "POST",
      headers,
      body: JSON.stringify(operation),
      signal,
    });
  };
  const first = await send(false);
  // The server's secret may have changed, for example with a new data directory. A request with status 401 had
  // no effect, so it is safe to repeat.
  const canRenew = first.response.status === 401 && offersUsers && session.get().credentials?.choice;
  return canRenew ? send(true) : first;
}
