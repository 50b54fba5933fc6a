/** The demo tenants of `palisade dev`. No other command of the service answers under /dev. */
export type DevUser = { email: string; role: string; status: string };
export type DevTenant = { slug: string; name: string; people: DevUser[] };

/** The tenants and their users; none if the service is not `palisade dev`. */
export async function devTenants(): Promise<DevTenant[]> {
  const response = await fetch("/dev/people");
  if (!response.ok) return [];
  const body = (await response.json()) as { tenants: DevTenant[] };
  return body.tenants;
}

/** A token without a password, as development has it. */
export async function devToken(tenant: string, user: string): Promise<string> {
  const response = await fetch("/dev/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ tenant, user }),
  });
  if (!response.ok) throw new Error(`no token: the service answered ${response.status}`);
  const body = (await response.json()) as { token: string };
  return body.token;
}
