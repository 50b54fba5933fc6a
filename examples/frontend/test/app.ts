import { execFileSync } from "node:child_process";

import { test as base, expect, type Locator, type Page } from "@playwright/test";
import { preview } from "vite";

/** The tests run inside `tests/with-service`, which sets these. */
function variable(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the tests with \`npm test\``);
  return value;
}

export const service = new URL(variable("PALISADE_GRAPHQL_URL"));

const tokens = new Map<string, string>();

/** A token for a demo user, such as `olivia@acme.example` of Acme. */
export function token(tenant: string, user: string): string {
  const email = `${user}@${tenant}.example`;
  const known = tokens.get(email);
  if (known) return known;
  const made = execFileSync(variable("PALISADE"), ["token", "--tenant", tenant, "--user", email]);
  tokens.set(email, made.toString().trim());
  return tokens.get(email)!;
}

/** Another client of the same service: what the app shows is compared with it, and it edits in between. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export async function ask(as: string, query: string, variables: object = {}): Promise<any> {
  const response = await fetch(service, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${as}` },
    body: JSON.stringify({ query, variables }),
  });
  const body = (await response.json()) as { data: unknown; errors?: unknown };
  expect(body.errors, query).toBeUndefined();
  return body.data;
}

/** A new project of the tenant, so that no test disturbs another's rows. */
export async function project(as: string, name: string): Promise<{ id: string }> {
  const { organizations } = await ask(as, "{ organizations(first: 1) { nodes { id } } }");
  const { createProject } = await ask(
    as,
    "mutation ($input: CreateProjectInput!) { createProject(input: $input) { project { id } userErrors { message } } }",
    { input: { name, organizationId: organizations.nodes[0].id, description: "As it was." } },
  );
  return createProject.project;
}

/** What somebody else does to it meanwhile. */
export async function rename(as: string, id: string, name: string): Promise<void> {
  const { updateProject } = await ask(
    as,
    "mutation ($input: UpdateProjectInput!) { updateProject(input: $input) { userErrors { message } } }",
    { input: { id, name } },
  );
  expect(updateProject.userErrors).toEqual([]);
}

/** The names of all projects, as the API lists them. */
export async function names(as: string, orderBy: object[] = [], filter: object = {}): Promise<string[]> {
  const data = await ask(
    as,
    `query ($orderBy: [ProjectOrder!], $filter: ProjectFilter) {
       projects(first: 100, orderBy: $orderBy, filter: $filter) { nodes { name } } }`,
    { orderBy, filter },
  );
  return data.projects.nodes.map((node: { name: string }) => node.name);
}

export class Pane {
  constructor(
    readonly page: Page,
    readonly root: Locator,
  ) {}

  async signIn(tenant: string, user = "olivia"): Promise<string> {
    const made = token(tenant, user);
    await this.root.getByLabel("Token").fill(made);
    await this.root.getByRole("button", { name: "Sign in" }).click();
    await expect(this.root.getByRole("heading", { level: 2, name: new RegExp(tenant, "i") })).toBeVisible();
    await expect(this.count).toBeVisible();
    return made;
  }

  get count(): Locator {
    return this.root.getByText(/^\d+ projects$/);
  }

  /** The projects' names, from top to bottom. */
  get titles(): Locator {
    return this.root.locator("li.card > header h3");
  }

  card(name: string): Locator {
    return this.root.getByRole("listitem").filter({ has: this.page.getByRole("heading", { name, exact: true }) });
  }

  async search(fields: { name?: string; status?: string; order?: string }): Promise<void> {
    if (fields.name !== undefined) await this.root.getByLabel("Name starts with").fill(fields.name);
    if (fields.status) await this.root.getByRole("search").getByLabel("Status").selectOption(fields.status);
    if (fields.order) await this.root.getByLabel("Order").selectOption(fields.order);
    await this.root.getByRole("button", { name: "Apply" }).click();
  }

  /** Opens the form of a project, which the search then shows alone. */
  async edit(name: string): Promise<Locator> {
    await this.search({ name });
    await this.root.getByRole("button", { name: `Edit ${name}` }).click();
    return this.root.getByRole("form", { name: "Edit project" });
  }
}

type Fixtures = { left: Pane; right: Pane };

export const test = base.extend<Fixtures, { app: string }>({
  app: [
    // eslint-disable-next-line no-empty-pattern
    async ({}, use) => {
      const server = await preview({ preview: { host: "127.0.0.1", port: 0 } });
      await use(server.resolvedUrls!.local[0]!);
      await server.close();
    },
    { scope: "worker" },
  ],
  page: async ({ page, app }, use) => {
    const wrong: string[] = [];
    page.on("pageerror", (error) => wrong.push(`${error}`));
    await page.route(
      (url) => url.hostname !== "127.0.0.1",
      (route) => {
        wrong.push(`asked for ${route.request().url()}`);
        return route.abort();
      },
    );
    await page.goto(app);
    await use(page);
    expect(wrong).toEqual([]);
  },
  left: ({ page }, use) => use(new Pane(page, page.getByRole("region", { name: "Left" }))),
  right: ({ page }, use) => use(new Pane(page, page.getByRole("region", { name: "Right" }))),
});

export { expect };
