/** Requests to the server other than GraphQL operations, and readable messages for their failures. */

/** A user of a tenant, as `/dev/people` lists them. */
export interface User {
  email: string;
  role: string;
  status: string;
}

/** A tenant and its users, as `/dev/people` lists them. */
export interface Tenant {
  name: string;
  slug: string;
  people: User[];
}

export interface Token {
  token: string;
  expiresAt: string;
}

const offers = new Set(
  document.querySelector<HTMLMetaElement>('meta[name="palisade-offers"]')?.content.split(" ") ?? [],
);

/** Whether the server lists its users and creates tokens for them. Only `palisade dev` does. */
export const offersUsers = offers.has("people");
/** Whether the server reports the statements of an operation. Only `palisade dev` does. */
export const offersTrace = offers.has("trace");

export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Sends a request and parses the response as JSON, also if its status is an error. */
export async function fetchJson(path: string, init?: RequestInit): Promise<{ response: Response; body: unknown }> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, { cache: "no-store", ...init });
    text = await response.text();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Error(`Cannot reach the server at ${location.origin} (${errorMessage(error)}). Is it running?`);
  }
  try {
    return { response, body: JSON.parse(text) };
  } catch {
    const start = text.trim().slice(0, 300);
    const problem = start ? `a body that is not JSON: ${start}` : "an empty body";
    throw new Error(`The server returned HTTP ${response.status} with ${problem}`);
  }
}

async function fetchFromDev<T>(path: string, init?: RequestInit): Promise<T> {
  const { response, body } = await fetchJson(path, init);
  if (!response.ok) {
    const { error } = body as { error?: string };
    throw new Error(error ?? `The server returned HTTP ${response.status}.`);
  }
  return body as T;
}

/** Returns every tenant with its users. */
export async function fetchTenants(): Promise<Tenant[]> {
  return (await fetchFromDev<{ tenants: Tenant[] }>("/dev/people")).tenants;
}

/** Creates a token for a user. `tenant` is the slug, `user` the email address. */
export function createToken(tenant: string, user: string): Promise<Token> {
  return fetchFromDev<Token>("/dev/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ tenant, user }),
  });
}

let sdl: Promise<string> | undefined;

/** Returns the SDL of the schema. A server with an explorer serves it to everyone, so it needs no token. */
export function fetchSdl(): Promise<string> {
  sdl ??= fetch("/graphiql/schema.graphql").then(
    (response) => {
      if (!response.ok) throw new Error(`Cannot read the schema: HTTP ${response.status}`);
      return response.text();
    },
    (error: unknown) => {
      throw new Error(`Cannot read the schema (${errorMessage(error)}). Is the server running?`);
    },
  );
  // After a failure, the next call sends the request again.
  sdl.catch(() => (sdl = undefined));
  return sdl;
}
