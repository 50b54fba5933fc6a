import { execFileSync } from "node:child_process";

import { test as base, expect, type Locator, type Page } from "@playwright/test";
import { preview } from "vite";

/** Reads an environment variable that `tests/with-service` sets. */
function variable(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the tests with \`npm test\``);
  return value;
}

export const graphqlUrl = new URL(variable("PALISADE_GRAPHQL_URL"));

const tokens = new Map<string, string>();

/** Creates a token for a demo user. `token("acme", "olivia")` is for `olivia@acme.example`. */
export function token(tenant: string, user: string): string {
  const email = `${user}@${tenant}.example`;
  const cached = tokens.get(email);
  if (cached) return cached;
  const output = execFileSync(variable("PALISADE"), ["token", "--tenant", tenant, "--user", email]);
  const created = output.toString().trim();
  tokens.set(email, created);
  return created;
}

/** Sends an operation to the service without the app, to check what the app shows or to edit a row at the same time. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export async function execute(token: string, query: string, variables: object = {}): Promise<any> {
  const response = await fetch(graphqlUrl, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
    body: JSON.stringify({ query, variables }),
  });
  const body = (await response.json()) as { data: unknown; errors?: unknown };
  expect(body.errors, query).toBeUndefined();
  return body.data;
}

/** Creates a project, so that each test has its own row. */
export async function createProject(token: string, name: string): Promise<{ id: string }> {
  const { organizations } = await execute(token, "{ organizations(first: 1) { nodes { id } } }");
  const data = await execute(
    token,
    "mutation ($input: CreateProjectInput!) { createProject(input: $input) { project { id } userErrors { message } } }",
    { input: { name, organizationId: organizations.nodes[0].id, description: "Original description." } },
  );
  return data.createProject.project;
}

/** Renames a project, as another client would. */
export async function renameProject(token: string, id: string, name: string): Promise<void> {
  const { updateProject } = await execute(
    token,
    "mutation ($input: UpdateProjectInput!) { updateProject(input: $input) { userErrors { message } } }",
    { input: { id, name } },
  );
  expect(updateProject.userErrors).toEqual([]);
}

/** Returns the names of the projects in the order in which the API lists them. */
export async function projectNames(token: string, orderBy: object[] = [], filter: object = {}): Promise<string[]> {
  const data = await execute(
    token,
    `query ($orderBy: [ProjectOrder!], $filter: ProjectFilter) {
       projects(first: 100, orderBy: $orderBy, filter: $filter) { nodes { name } } }`,
    { orderBy, filter },
  );
  return data.projects.nodes.map((node: { name: string }) => node.name);
}

/** One half of the page. */
export class Pane {
  constructor(
    readonly page: Page,
    readonly root: Locator,
  ) {}

  async signIn(tenant: string, user = "olivia"): Promise<string> {
    const userToken = token(tenant, user);
    await this.root.getByLabel("Token").fill(userToken);
    await this.root.getByRole("button", { name: "Sign in" }).click();
    await expect(this.root.getByRole("heading", { level: 2, name: new RegExp(tenant, "i") })).toBeVisible();
    await expect(this.count).toBeVisible();
    return userToken;
  }

  get count(): Locator {
    return this.root.getByText(/^\d+ projects$/);
  }

  /** The names of the projects from top to bottom. */
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

  /** Searches for a project and opens its form. */
  async openEditForm(name: string): Promise<Locator> {
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
    const problems: string[] = [];
    page.on("pageerror", (error) => problems.push(`${error}`));
    await page.route(
      (url) => url.hostname !== "127.0.0.1",
      (route) => {
        problems.push(`request to ${route.request().url()}`);
        return route.abort();
      },
    );
    await page.goto(app);
    await use(page);
    expect(problems).toEqual([]);
  },
  left: ({ page }, use) => use(new Pane(page, page.getByRole("region", { name: "Left" }))),
  right: ({ page }, use) => use(new Pane(page, page.getByRole("region", { name: "Right" }))),
});

export { expect };
