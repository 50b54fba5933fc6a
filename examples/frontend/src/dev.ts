/** The demo tenants of `palisade dev`. Only this command serves paths below /dev; `palisade serve` does not. */
export type DevUser = { email: string; role: string; status: string };
export type DevTenant = { slug: string; name: string; people: DevUser[] };

/** Returns the tenants and their users, or an empty list if the service is not `palisade dev`. */
export async function fetchDevTenants(): Promise<DevTenant[]> {
  const response = await fetch("/dev/people");
  if (!response.ok) return [];
  const body = (await response.json()) as { tenants: DevTenant[] };
  return body.tenants;
}

/** Creates a token for a user, without a password. */
export async function createDevToken(tenant: string, user: string): Promise<string> {
  const response = await fetch("/dev/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ tenant, user }),
  });
  if (!response.ok) throw new Error(`Cannot create a token: the service returned HTTP ${response.status}`);
  const body = (await response.json()) as { token: string };
  return body.token;
}
