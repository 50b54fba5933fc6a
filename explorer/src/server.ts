/** What the server is asked besides GraphQL, and the plain words for what goes wrong. */

/** Somebody of a tenant, as the sign-in directory knows them. */
export interface Person {
  email: string;
  role: string;
  status: string;
}

/** A tenant with those who may be entered as. */
export interface Tenant {
  name: string;
  slug: string;
  people: Person[];
}

/** A token and when it ends. */
export interface Token {
  token: string;
  expiresAt: string;
}

const offers = new Set(
  document.querySelector<HTMLMetaElement>('meta[name="palisade-offers"]')?.content.split(" ") ?? [],
);

/** Whether the server hands out tokens: `palisade dev` does. */
export const offersPeople = offers.has("people");
/** Whether the server says what an operation cost: `palisade dev` does. */
export const offersTrace = offers.has("trace");

/** Something that a person can read and act upon. */
export class Trouble extends Error {}

export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A request whose answer is JSON, whatever its status. */
export async function askJson(path: string, init?: RequestInit): Promise<{ response: Response; body: unknown }> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, { cache: "no-store", ...init });
    text = await response.text();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Trouble(`The server at ${location.origin} does not answer (${reason(error)}). Is it running?`);
  }
  try {
    return { response, body: JSON.parse(text) };
  } catch {
    const start = text.trim().slice(0, 300) || "nothing at all";
    throw new Trouble(`The server answered ${response.status} and not JSON: ${start}`);
  }
}

async function ask<T>(path: string, init?: RequestInit): Promise<T> {
  const { response, body } = await askJson(path, init);
  if (!response.ok) {
    const said = (body as { error?: string }).error;
    throw new Trouble(said ?? `The server answered ${response.status}.`);
  }
  return body as T;
}

/** Every tenant with its people. */
export async function people(): Promise<Tenant[]> {
  return (await ask<{ tenants: Tenant[] }>("/dev/people")).tenants;
}

/** A new token for somebody. */
export function mint(tenant: string, user: string): Promise<Token> {
  return ask<Token>("/dev/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ tenant, user }),
  });
}

let text: Promise<string> | undefined;

/** The schema as text. It is public to whoever sees this page, so it needs no token. */
export function schemaText(): Promise<string> {
  text ??= fetch("/graphiql/schema.graphql").then(
    (response) => {
      if (!response.ok) throw new Trouble(`The schema cannot be read: ${response.status}`);
      return response.text();
    },
    (error: unknown) => {
      throw new Trouble(`The schema cannot be read (${reason(error)}). Is the server running?`);
    },
  );
  text.catch(() => (text = undefined));
  return text;
}
