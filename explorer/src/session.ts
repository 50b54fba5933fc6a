/** As whom operations run: somebody picked from the directory, or whoever a pasted token is for. */

import { askJson, mint, offersPeople, people, reason, type Tenant } from "./server";
import { keep, recall, store } from "./store";
import { runs } from "./trace";

/** Whom the picker names. */
export interface Choice {
  tenant: string;
  user: string;
}

/** Whom a token is for, as the API says. */
export interface Viewer {
  tenant: string;
  /** The name that no other tenant has. */
  slug: string;
  user: string;
  role: string;
}

interface Held {
  token: string;
  /** When it ends; unknown of a pasted one. */
  expiresAt?: string;
  /** For whom it was made; nobody if it was pasted. */
  choice?: Choice;
}

interface Session {
  tenants: Tenant[];
  held: Held | undefined;
  viewer: Viewer | undefined;
  /** Why there is no token, or why it is of no use. */
  trouble: string | undefined;
  /** Counts the changes of identity: an answer belongs to the one under which it was asked for. */
  era: number;
}

/** A token is replaced this long before it ends, in milliseconds. */
const EARLY = 60_000;
const VIEWER = "query ExplorerViewer { viewer { role tenant { name slug } user { email } } }";

export const session = store<Session>({
  tenants: [],
  held: recall<Held>(sessionStorage, "token"),
  viewer: undefined,
  trouble: undefined,
  era: 0,
});

/** The running requests of the present identity. */
let running = new AbortController();
export const whileSame = () => running.signal;

function become(held: Held | undefined, trouble?: string) {
  running.abort();
  running = new AbortController();
  keep(sessionStorage, "token", held);
  // What it says is of whoever was left.
  runs.set({ last: undefined });
  session.set({ held, trouble, viewer: undefined, era: session.get().era + 1 });
}

/** Becomes whoever a token in the address is for, and says whether there is one. */
function takeFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return false;
  // Out of the address, which people copy. The browser's history has kept it by then.
  history.replaceState(null, "", location.pathname + location.search);
  become({ token: given });
  return true;
}

/** Reads the address, the directory and what the last visit left. */
export async function start() {
  // A second link may be opened in the same tab.
  addEventListener("hashchange", () => {
    if (takeFromAddress()) void identify().then(adopt);
  });
  const given = takeFromAddress();
  if (offersPeople) {
    try {
      session.set({ tenants: await people() });
    } catch (error) {
      session.set({ trouble: reason(error) });
      return;
    }
  }
  const held = session.get().held;
  if (held && !held.choice) {
    await identify();
    if (given) adopt();
    return;
  }
  const wanted = held?.choice ?? recall<Choice>(localStorage, "choice");
  const known = wanted && find(wanted);
  const first = known ? wanted : firstChoice();
  if (!first) return;
  if (held && known) await identify();
  else await pick(first);
}

/** If the pasted token is for somebody of the directory, the picker shows them. */
function adopt() {
  const { viewer, tenants, held } = session.get();
  const tenant = tenants.find((tenant) => tenant.slug === viewer?.slug);
  if (!viewer || !tenant || !held) return;
  const choice = { tenant: tenant.slug, user: viewer.user };
  if (!find(choice)) return;
  keep(localStorage, "choice", choice);
  const adopted = { ...held, choice };
  keep(sessionStorage, "token", adopted);
  session.set({ held: adopted });
}

function find(choice: Choice) {
  const tenant = session.get().tenants.find((tenant) => tenant.slug === choice.tenant);
  return tenant?.people.find((person) => person.email === choice.user && person.status === "ACTIVE");
}

function firstChoice(): Choice | undefined {
  for (const tenant of session.get().tenants) {
    const person = ableFirst(tenant);
    if (person) return { tenant: tenant.slug, user: person.email };
  }
  return undefined;
}

/** Whoever may do the most; of a role if there is one. */
export function ableFirst(tenant: Tenant, role?: string) {
  const active = tenant.people.filter((person) => person.status === "ACTIVE");
  return active.find((person) => person.role === role) ?? active.find((person) => person.role === "OWNER") ?? active[0];
}

/** Becomes somebody of the directory. */
export async function pick(choice: Choice) {
  keep(localStorage, "choice", choice);
  become(undefined);
  const { era } = session.get();
  try {
    const token = await mint(choice.tenant, choice.user);
    if (session.get().era !== era) return;
    become({ ...token, choice });
    await identify();
  } catch (error) {
    if (session.get().era === era) session.set({ trouble: reason(error) });
  }
}

/** Becomes whoever a token is for. */
export async function paste(token: string) {
  become({ token });
  await identify();
}

/** Becomes nobody. */
export function leave() {
  become(undefined);
}

/** Asks the API whom the token is for. */
async function identify() {
  const { era } = session.get();
  try {
    const { body } = await post({ query: VIEWER });
    if (session.get().era !== era) return;
    const said = body as {
      data?: { viewer?: { role: string; tenant?: { name: string; slug: string }; user?: { email: string } } };
      errors?: { message: string }[];
    };
    const viewer = said.data?.viewer;
    if (viewer) {
      const { name = "?", slug = "" } = viewer.tenant ?? {};
      const known = { tenant: name, slug, user: viewer.user?.email ?? "?", role: viewer.role };
      session.set({ viewer: known, trouble: undefined });
    } else {
      const why = said.errors?.[0]?.message ?? "no reason given";
      session.set({ trouble: `The server refuses the token: ${why}` });
    }
  } catch (error) {
    if (session.get().era === era) session.set({ trouble: reason(error) });
  }
}

/** A token that is good for a while; a new one if the one at hand was minted here and is about to end. */
async function bearer(renew: boolean): Promise<string | undefined> {
  const { held, era } = session.get();
  if (!held?.choice || !offersPeople) return held?.token;
  const ends = held.expiresAt ? Date.parse(held.expiresAt) : Infinity;
  if (!renew && ends - Date.now() > EARLY) return held.token;
  const token = await mint(held.choice.tenant, held.choice.user);
  if (session.get().era !== era) return undefined;
  const renewed = { ...token, choice: held.choice };
  keep(sessionStorage, "token", renewed);
  session.set({ held: renewed });
  return renewed.token;
}

/** Sends one operation as the present identity. */
export async function post(operation: object, own: HeadersInit = {}): Promise<{ response: Response; body: unknown }> {
  const send = async (renew: boolean) => {
    const headers = new Headers(own);
    const signal = whileSame();
    const token = await bearer(renew);
    // Somebody else may have been picked while a token was made.
    signal.throwIfAborted();
    // The picker's token wins, or the page would show one tenant and answer with another.
    if (token) headers.set("authorization", `Bearer ${token}`);
    headers.set("content-type", "application/json");
    headers.set("accept", "application/graphql-response+json, application/json;q=0.9");
    return askJson("/graphql", {
      method: "POST",
      headers,
      body: JSON.stringify(operation),
      signal,
    });
  };
  const first = await send(false);
  // A secret that changed since, as after a new data directory: nothing was executed, so ask again.
  const renewable = first.response.status === 401 && offersPeople && session.get().held?.choice;
  return renewable ? send(true) : first;
}
