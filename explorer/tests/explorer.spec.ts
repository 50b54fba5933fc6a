import { readFileSync } from "node:fs";
import { join } from "node:path";

import { buildSchema } from "graphql";

import { devUrl, expect, expectFits, serveUrl, test, tokenA, tokenB } from "./explorer";

interface Project {
  id: string;
  name: string;
}

const HEADLINE = "Projects with all their relations";

test("/, /graphql and /graphiql all open the explorer", async ({ explorer }) => {
  const { page } = explorer;
  for (const path of ["/", "/graphql", "/graphiql", "/graphiql/"]) {
    await explorer.open(devUrl() + path);
    expect(new URL(page.url()).pathname).toBe("/graphiql");
  }
  // The page selects a user by itself, so the first operation runs without a further click.
  await expect(explorer.viewer).toContainText("Acme: olivia@acme.example, OWNER");
  const { data } = await explorer.run();
  expect(data.viewer.user.email).toBe("olivia@acme.example");
});

test("the headline query returns different rows after a change of the tenant", async ({ explorer }) => {
  await explorer.openAs("Acme", "adam@acme.example");
  await explorer.openExample(HEADLINE);
  const first = await explorer.run();
  const acmeProjects: Project[] = first.data.projects.nodes;
  expect(acmeProjects).toHaveLength(5);
  for (const relation of ["organization", "owner", "invoices", "auditLogs"]) expect(acmeProjects[0]).toHaveProperty(relation);
  // The trace is below the response, not in it.
  expect(JSON.stringify(first.extensions ?? {})).not.toContain("statements");
  await expect(explorer.lastRun).toContainText(/Done · HTTP 200 · .* ms · \d+ round trips · \d+ statements/);
  await explorer.screenshot("headline");

  await explorer.chooseUser("Globex");
  // The new user has the same role, and the response of the previous tenant is gone.
  await expect(explorer.user).toHaveValue("adam@globex.example");
  expect(await explorer.content("response")).toBe("");
  await expect(explorer.lastRun).not.toContainText("Done");
  const second = await explorer.run();
  const globexProjects: Project[] = second.data.projects.nodes;
  expect(globexProjects).toHaveLength(5);
  const ids = new Set(acmeProjects.map(({ id }) => id));
  expect(globexProjects.filter(({ id }) => ids.has(id))).toEqual([]);
  expect(JSON.stringify(second)).not.toContain("acme.example");
});

test("a second link with a token, opened in the same tab, changes the user", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.open(`${devUrl()}/graphiql#token=${tokenA()}`);
  await expect(explorer.viewer).toContainText("Acme: olivia@acme.example");
  await page.evaluate((token) => (location.hash = `token=${token}`), tokenB());
  await expect(explorer.viewer).toContainText("Globex: olivia@globex.example");
  await expect(explorer.tenant).toHaveValue("globex");
  expect(new URL(page.url()).hash).toBe("");
  expect((await explorer.run()).data.viewer.user.email).toBe("olivia@globex.example");
});

test("a mutation with user errors is not reported as done", async ({ explorer }) => {
  await explorer.openAs("Acme");
  await explorer.setContent("operation", 'mutation { createProduct(input: { asin: "no" }) { userErrors { code } } }');
  const { data } = await explorer.run();
  expect(data.createProduct.userErrors).not.toEqual([]);
  await expect(explorer.lastRun).toContainText("User errors · HTTP 200");
});

test("a change of the tenant also clears the responses of other tabs", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  await explorer.run();
  await explorer.openExample("Currencies");
  await explorer.chooseUser("Globex");
  await page.getByRole("button", { name: "WhoAmI", exact: true }).click();
  await expect.poll(() => explorer.content("operation")).toContain("WhoAmI");
  expect(await explorer.content("response")).toBe("");
});

test("a response that arrives after a change of the tenant is not shown", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  let release = () => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  await page.route("**/graphql", async (route) => {
    if (route.request().postData()?.includes("WhoAmI")) await released;
    // The page has aborted the request by then.
    await route.continue().catch(() => undefined);
  });
  await page.getByRole("button", { name: /^Execute query/ }).click();
  const spinner = page.locator(".graphiql-response .graphiql-spinner");
  await expect(spinner).toBeVisible();
  await explorer.chooseUser("Globex");
  release();
  await expect(spinner).toHaveCount(0);
  expect(await explorer.content("response")).not.toContain("acme");
  await page.unroute("**/graphql");
  expect((await explorer.run()).data.viewer.tenant.slug).toBe("globex");
});

test("choosing a role selects a user with this role", async ({ explorer }) => {
  await explorer.openAs("Acme");
  await explorer.role.selectOption("VIEWER");
  await expect(explorer.viewer).toContainText("vera@acme.example, VIEWER");
  await expect(explorer.user.locator("option")).toHaveCount(1);
  const { data } = await explorer.run();
  expect(data.viewer.role).toBe("VIEWER");
});

test("localStorage keeps the chosen user, and only sessionStorage keeps the token", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Initech", "mia@initech.example");
  const stored = await page.evaluate(() => ({ local: JSON.stringify({ ...localStorage }), session: JSON.stringify({ ...sessionStorage }) }));
  expect(stored.local).toContain("mia@initech.example");
  expect(stored.local).not.toContain("eyJ");
  expect(stored.session).toContain("eyJ");
  await page.evaluate(() => sessionStorage.clear());
  await page.reload();
  await expect(explorer.viewer).toContainText("Initech: mia@initech.example, MEMBER");
});

test("a token that the server rejects is replaced automatically", async ({ explorer }) => {
  const { page } = explorer;
  explorer.expectedConsoleErrors.push(/401/);
  await explorer.openAs("Acme");
  await page.evaluate(() => {
    const key = "palisade:explorer:token";
    const credentials = JSON.parse(sessionStorage.getItem(key) ?? "{}") as { token: string };
    sessionStorage.setItem(key, JSON.stringify({ ...credentials, token: `${credentials.token.slice(0, -8)}AAAAAAAA` }));
  });
  await page.reload();
  await expect(explorer.viewer).toContainText("Acme: olivia@acme.example");
  expect((await explorer.run()).data.viewer.role).toBe("OWNER");
});

test("examples contain real IDs of the current tenant", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  await explorer.openExample("One project by ID");
  const variables = JSON.parse(await explorer.content("variables")) as { id: string };
  expect((await explorer.run()).data.project.id).toBe(variables.id);

  await explorer.chooseUser("Globex");
  // The same operation finds nothing, because the ID belongs to another tenant.
  expect((await explorer.run()).data.project).toBeNull();
  await explorer.openExample("One project by ID");
  const theirs = JSON.parse(await explorer.content("variables")) as { id: string };
  expect(theirs.id).not.toBe(variables.id);
  expect((await explorer.run()).data.project.id).toBe(theirs.id);

  await explorer.openExample("A page of projects, filtered");
  const pageVariables = JSON.parse(await explorer.content("variables")) as Record<string, unknown>;
  expect(Object.keys(pageVariables)).toEqual(["first", "after", "filter", "orderBy"]);
  expect((await explorer.run()).data.projects.totalCount).toBeGreaterThan(0);

  await page.getByLabel("Find an example").fill("no example has this title");
  await expect(page.getByText("No example matches.")).toBeVisible();
});

test("after a mutation, the SQL panel shows its statements", async ({ explorer, context }) => {
  const { page } = explorer;
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await explorer.openAs("Acme", "mia@acme.example");
  await explorer.openExample("Create comment");
  const { data } = await explorer.run();
  expect(data.createComment.userErrors).toEqual([]);
  expect(data.createComment.comment.body).toBe("Written in the explorer");

  await page.locator(".last-run").getByRole("button", { name: "Show SQL" }).click();
  const panel = page.getByRole("region", { name: "SQL", exact: true });
  await expect(panel).toContainText("mutation CreateComment, as mia@acme.example of Acme");
  await expect(panel.locator(".totals")).toContainText(/Round trips\d+/);
  const statements = panel.locator(".statements li");
  const insert = statements.filter({ hasText: /insert into "?comments/i }).first();
  await expect(insert).toBeVisible();
  // The line below the response reports the same number.
  await expect(explorer.lastRun).toContainText(`${await statements.count()} statement`);
  await insert.getByRole("button", { name: /^Copy statement/ }).click();
  await expect(insert.getByText("copied")).toBeVisible();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toMatch(/insert into "?comments/i);
  await explorer.screenshot("mutation-sql");
});

test("the SQL panel shows the time and the rows of statements that report them", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  await page.route("**/graphql", (route) =>
    route.fulfill({
      contentType: "application/graphql-response+json",
      body: JSON.stringify({
        data: { viewer: null },
        extensions: {
          palisade: { roundTrips: 2, statements: [{ sql: "select 1", ms: 0.42, rows: 1 }, { sql: "select 2", ms: 12.6, rows: 20 }] },
          other: true,
        },
      }),
    }),
  );
  expect((await explorer.run()).extensions).toEqual({ other: true });
  await explorer.showPanel("SQL");
  const panel = page.getByRole("region", { name: "SQL", exact: true });
  await expect(panel.locator(".totals")).toContainText("Statement time13 ms");
  await expect(panel.locator(".totals")).toContainText("Rows21");
  await expect(panel.locator(".statements li").first()).toContainText("0.4 ms · 1 row");
  await expect(panel.locator(".statements li").last()).toContainText("13 ms · 20 rows");
  await explorer.screenshot("sql-timed");
});

test("a dry run writes nothing", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Globex");
  await page.getByLabel("Dry run").check();
  await explorer.openExample("Create organization");
  const { data } = await explorer.run();
  const { id } = data.createOrganization.organization;
  await expect(explorer.lastRun).toContainText("dry run: nothing was written");
  await explorer.setContent("operation", `{ organization(id: "${id}") { id } }`);
  await explorer.setContent("variables", "");
  expect((await explorer.run()).data.organization).toBeNull();
  // The setting survives a reload. A query is never a dry run.
  await page.reload();
  await expect(page.getByLabel("Dry run")).toBeChecked();
  await expect(explorer.lastRun).not.toContainText("dry run");
});

test("headers of the headers editor are sent, and survive a reload", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  const key = `explorer-${Date.now()}`;
  await page.getByRole("button", { name: "Headers", exact: true }).click();
  await explorer.setContent("request-headers", JSON.stringify({ "Idempotency-Key": key }));
  await explorer.openExample("Create organization");
  expect(JSON.parse(await explorer.content("request-headers"))).toEqual({ "Idempotency-Key": key });
  const first = await explorer.run();
  expect(first.data.createOrganization.userErrors).toEqual([]);
  // GraphiQL writes to localStorage after half a second.
  for (const [item, text] of [["tabState", key], ["headers", key], ["query", "CreateOrganization"]] as const) {
    await expect.poll(() => page.evaluate((item) => localStorage.getItem(`graphiql:${item}`) ?? "", item)).toContain(text);
  }

  await page.reload();
  await expect(page.locator(".graphiql-query-editor .view-line").first()).toBeVisible();
  await expect(explorer.viewer).toContainText("Acme");
  await expect.poll(() => explorer.content("request-headers")).toContain(key);
  const second = await explorer.run();
  expect(second.data).toEqual(first.data);
  await expect(explorer.lastRun).toContainText("replayed");
});

test("a token in the URL is used and removed from the URL", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.open(`${devUrl()}/graphiql#token=${tokenB()}`);
  await expect(explorer.viewer).toContainText("Globex: olivia@globex.example, OWNER");
  await expect(explorer.tenant).toHaveValue("globex");
  expect(page.url()).toBe(`${devUrl()}/graphiql`);
  expect((await explorer.run()).data.viewer.tenant.slug).toBe("globex");
});

test("the page names the user of a pasted token, and reports a rejected token", async ({ explorer }) => {
  const { page } = explorer;
  explorer.expectedConsoleErrors.push(/401/);
  await explorer.openAs("Acme");
  await page.getByRole("button", { name: "Paste a token" }).click();
  await page.getByLabel("Token", { exact: true }).fill(`Bearer ${tokenB()}`);
  await page.getByRole("button", { name: "Use token" }).click();
  await expect(page.getByText("Globex: olivia@globex.example, OWNER")).toBeVisible();
  expect((await explorer.run()).data.viewer.tenant.slug).toBe("globex");

  await page.getByRole("button", { name: "Paste a token" }).click();
  await page.getByLabel("Token", { exact: true }).fill("not.a.token");
  await page.getByRole("button", { name: "Use token" }).click();
  await expect(explorer.viewer).toContainText("The server rejected the token");
  const { errors } = await explorer.run();
  expect(errors[0].extensions.code).toBe("UNAUTHENTICATED");
  await explorer.screenshot("rejected-token");
  await page.getByRole("button", { name: "Choose a user instead" }).click();
  await expect(explorer.viewer).toContainText("Acme");
});

test("network errors, responses that are not JSON and invalid operations are reported", async ({ explorer }) => {
  const { page } = explorer;
  explorer.expectedConsoleErrors.push(/ERR_FAILED|502|400/);
  await explorer.openAs("Acme");
  await page.route("**/graphql", (route) => route.abort());
  expect((await explorer.run()).errors[0].message).toContain("Cannot reach the server");
  await explorer.screenshot("no-connection");

  await page.unroute("**/graphql");
  await page.route("**/graphql", (route) => route.fulfill({ status: 502, contentType: "text/html", body: "<h1>Bad gateway</h1>" }));
  await page.getByRole("button", { name: /^Execute query/ }).click();
  await expect.poll(() => explorer.content("response")).toContain("returned HTTP 502 with a body that is not JSON: <h1>Bad gateway</h1>");

  await page.unroute("**/graphql");
  await explorer.setContent("operation", "{ nothing }");
  await page.getByRole("button", { name: /^Execute query/ }).click();
  await expect.poll(() => explorer.content("response")).toContain("GRAPHQL_VALIDATION_FAILED");
  await expect(explorer.lastRun).toContainText("Errors · HTTP 400");

  await explorer.setContent("variables", "{ no json");
  await page.getByRole("button", { name: /^Execute query/ }).click();
  await expect.poll(() => explorer.content("response")).toContain("Request not sent. Variables");
});

test("the documentation panel shows descriptions of the schema", async ({ explorer }) => {
  const { page } = explorer;
  const sdl = await (await fetch(`${devUrl()}/graphiql/schema.graphql`)).text();
  const description = buildSchema(sdl).getQueryType()!.getFields().projects!.description!;
  // The panel formats Markdown, so compare the text before the first special character.
  const start = /^[\w ,]{10,}/.exec(description)![0];
  await explorer.openAs("Acme");
  await explorer.showPanel("Documentation Explorer");
  await page.getByRole("link", { name: "Query", exact: true }).first().click();
  await page.getByRole("link", { name: "projects", exact: true }).click();
  await expect(page.locator(".graphiql-doc-explorer")).toContainText(start);
  // GraphiQL's own button loads the schema again.
  await page.getByRole("button", { name: /^Re-fetch GraphQL schema/ }).click();
  await expect(page.locator(".graphiql-doc-explorer")).toContainText(start);
});

test("the builder works with the keyboard", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  await explorer.showPanel("GraphiQL Explorer");
  const builder = page.locator(".graphiql-explorer-root");
  const currencies = builder.getByRole("button", { name: "currencies", exact: true });
  await currencies.focus();
  await page.keyboard.press("Enter");
  await expect(currencies).toHaveAttribute("aria-expanded", "true");
  const code = builder.locator(".graphiql-explorer-currencies").getByRole("button", { name: "code", exact: true });
  await code.focus();
  await page.keyboard.press("Space");
  await expect(code).toHaveAttribute("aria-pressed", "true");
  await expect.poll(() => explorer.content("operation")).toMatch(/currencies \{\s+code\s+\}/);
  expect((await explorer.run()).data.currencies.length).toBeGreaterThan(0);
});

test("the editor suggests fields of the schema", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  await explorer.setContent("operation", "{ proj }");
  await page.locator(".graphiql-query-editor .view-line").first().click();
  await page.keyboard.press("Home");
  for (let i = 0; i < 6; i++) await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Control+Space");
  await expect(page.locator(".suggest-widget")).toContainText("projects");
});

test("Tab reaches every control, and Ctrl+Enter runs the operation", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  await page.locator("body").focus();
  const reached: string[] = [];
  for (let i = 0; i < 20; i++) {
    await page.keyboard.press("Tab");
    reached.push(
      await page.evaluate(() => {
        const element = document.activeElement as HTMLElement | null;
        const label = element?.closest("label")?.innerText.split("\n")[0]?.trim();
        return element?.getAttribute("aria-label") ?? label ?? element?.innerText ?? "";
      }),
    );
  }
  for (const name of ["Tenant", "Role", "User", "Paste a token", "Dry run", "Theme", "Hide Examples", "Show SQL", "Find an example"]) {
    expect(reached, reached.join(", ")).toContain(name);
  }
  await page.locator(".graphiql-query-editor .view-line").first().click();
  await page.keyboard.press("Control+Enter");
  expect((await explorer.response()).data.viewer.role).toBe("OWNER");
});

test.describe("dark color scheme", () => {
  test.use({ colorScheme: "dark" });

  test("the page follows the system theme until a theme is chosen", async ({ explorer }) => {
    const { page } = explorer;
    const lightness = () =>
      page.evaluate(() => {
        const channels = getComputedStyle(document.body).backgroundColor.match(/\d+/g) ?? [];
        return channels.slice(0, 3).reduce((sum, channel) => sum + Number(channel), 0) / 3;
      });
    await explorer.openAs("Acme");
    expect(await lightness()).toBeLessThan(100);
    await page.getByRole("combobox", { name: "Theme" }).selectOption("light");
    await expect.poll(lightness).toBeGreaterThan(200);
    await page.reload();
    await expect.poll(lightness).toBeGreaterThan(200);
    await page.getByRole("combobox", { name: "Theme" }).selectOption("system");
    await expect.poll(lightness).toBeLessThan(100);
    await explorer.screenshot("dark");
  });
});

test("the page fits a narrow window", async ({ explorer }) => {
  const { page } = explorer;
  await page.setViewportSize({ width: 400, height: 800 });
  await explorer.openAs("Acme");
  for (const control of [explorer.tenant, explorer.role, explorer.user, page.getByRole("combobox", { name: "Theme" })]) {
    await expectFits(page, control);
  }
  await explorer.openExample(HEADLINE);
  expect((await explorer.run()).data.projects.nodes).toHaveLength(5);
  await explorer.lastRun.scrollIntoViewIfNeeded();
  await expectFits(page, explorer.lastRun);
  const scrollsSideways = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
  expect(scrollsSideways).toBe(false);
  await explorer.screenshot("narrow");
  await explorer.expectAccessible("narrow");
});

test("with serve there is no user picker, and a pasted token works", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.open(`${serveUrl()}/graphiql`);
  await expect(explorer.viewer).toContainText("Not signed in");
  await expect(explorer.tenant).toHaveCount(0);
  expect((await explorer.run()).errors[0].message).toContain("Not signed in");
  // The schema and the examples are available without a token. The examples contain no IDs.
  await explorer.openExample("One project by ID");
  expect(JSON.parse(await explorer.content("variables")).id).toContain("no project is visible");

  await page.getByLabel("Token", { exact: true }).fill(tokenA());
  await page.getByRole("button", { name: "Use token" }).click();
  await expect(explorer.viewer).toContainText("Acme: olivia@acme.example, OWNER");
  await explorer.openExample("One project by ID");
  const { data } = await explorer.run();
  expect(data.project.id).toBe(JSON.parse(await explorer.content("variables")).id);
  await expect(explorer.lastRun).toContainText(/HTTP 200 · [\d.]+ ms$/);
  await explorer.showPanel("SQL");
  await expect(page.getByText("This server does not report the SQL of operations")).toBeVisible();
  await explorer.screenshot("serve");
  await explorer.expectAccessible("serve");
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(explorer.viewer).toContainText("Not signed in");
});

test("the page requests only its own server's files, workers included", async ({ explorer }) => {
  const { page } = explorer;
  const paths = new Set<string>();
  page.on("request", (request) => paths.add(new URL(request.url()).pathname));
  await explorer.openAs("Acme");
  // The workers check operations and variables in the background.
  for (const worker of ["editor.worker", "graphql.worker", "json.worker"]) {
    await expect.poll(() => [...paths].some((path) => path.includes(worker)), worker).toBe(true);
  }
  expect([...paths].filter((path) => !/^\/(graphiql(\/assets\/[\w.-]+|\/schema\.graphql)?|graphql|dev\/(people|token))$/.test(path))).toEqual([]);
  const index = readFileSync(join(import.meta.dirname, "../index.html"), "utf8");
  expect(index).not.toMatch(/https?:/);
});
