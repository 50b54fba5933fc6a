import { readFileSync } from "node:fs";
import { join } from "node:path";

import { dev, expect, fits, serve, test, tokenA, tokenB } from "./explorer";

interface Project {
  id: string;
  name: string;
}

const HEADLINE = "Projects with everything they lead to";

test("it opens from the root, from the API's address and by its name", async ({ explorer }) => {
  const { page } = explorer;
  for (const path of ["/", "/graphql", "/graphiql", "/graphiql/"]) {
    await explorer.open(dev() + path);
    expect(new URL(page.url()).pathname).toBe("/graphiql");
  }
  // Somebody is there at once, and the first operation runs without a further click.
  await expect(explorer.who).toContainText("Acme: olivia@acme.example, OWNER");
  const { data } = await explorer.run();
  expect(data.viewer.user.email).toBe("olivia@acme.example");
});

test("a picked user runs the headline query, and another tenant has other rows", async ({ explorer }) => {
  await explorer.openAs("Acme", "adam@acme.example");
  await explorer.example(HEADLINE);
  const first = await explorer.run();
  const ours: Project[] = first.data.projects.nodes;
  expect(ours).toHaveLength(5);
  for (const relation of ["organization", "owner", "invoices", "auditLogs"]) expect(ours[0]).toHaveProperty(relation);
  // Its cost is beside the answer and not in it.
  expect(JSON.stringify(first.extensions ?? {})).not.toContain("statements");
  await expect(explorer.lastRun).toContainText(/Done · HTTP 200 · .* ms · \d+ round trips · \d+ statements/);
  await explorer.shoot("headline");

  await explorer.pick("Globex");
  // Of the same role as before, and without the other tenant's answer.
  await expect(explorer.user).toHaveValue("adam@globex.example");
  expect(await explorer.text("response")).toBe("");
  await expect(explorer.lastRun).not.toContainText("Done");
  const second = await explorer.run();
  const theirs: Project[] = second.data.projects.nodes;
  expect(theirs).toHaveLength(5);
  const ids = new Set(ours.map(({ id }) => id));
  expect(theirs.filter(({ id }) => ids.has(id))).toEqual([]);
  expect(JSON.stringify(second)).not.toContain("acme.example");
});

test("a link for somebody else opened in the same tab is followed", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.open(`${dev()}/graphiql#token=${tokenA()}`);
  await expect(explorer.who).toContainText("Acme: olivia@acme.example");
  await page.evaluate((token) => (location.hash = `token=${token}`), tokenB());
  await expect(explorer.who).toContainText("Globex: olivia@globex.example");
  await expect(explorer.tenant).toHaveValue("globex");
  expect(new URL(page.url()).hash).toBe("");
  expect((await explorer.run()).data.viewer.user.email).toBe("olivia@globex.example");
});

test("a mutation that was refused is not said to be done", async ({ explorer }) => {
  await explorer.openAs("Acme");
  await explorer.write("operation", 'mutation { createProduct(input: { asin: "no" }) { userErrors { code } } }');
  const { data } = await explorer.run();
  expect(data.createProduct.userErrors).not.toEqual([]);
  await expect(explorer.lastRun).toContainText("Refused · HTTP 200");
});

test("answers in other tabs go away with the tenant, too", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  await explorer.run();
  await explorer.example("Currencies");
  await explorer.pick("Globex");
  await page.getByRole("button", { name: "WhoAmI", exact: true }).click();
  await expect.poll(() => explorer.text("operation")).toContain("WhoAmI");
  expect(await explorer.text("response")).toBe("");
});

test("an answer for the tenant that was left is not shown", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  let answerNow = () => {};
  const held = new Promise<void>((resolve) => (answerNow = resolve));
  await page.route("**/graphql", async (route) => {
    if (route.request().postData()?.includes("WhoAmI")) await held;
    // The page has given it up by then.
    await route.continue().catch(() => undefined);
  });
  await page.getByRole("button", { name: /^Execute query/ }).click();
  const spinner = page.locator(".graphiql-response .graphiql-spinner");
  await expect(spinner).toBeVisible();
  await explorer.pick("Globex");
  answerNow();
  await expect(spinner).toHaveCount(0);
  expect(await explorer.text("response")).not.toContain("acme");
  await page.unroute("**/graphql");
  expect((await explorer.run()).data.viewer.tenant.slug).toBe("globex");
});

test("a role picks somebody who has it", async ({ explorer }) => {
  await explorer.openAs("Acme");
  await explorer.role.selectOption("VIEWER");
  await expect(explorer.who).toContainText("vera@acme.example, VIEWER");
  await expect(explorer.user.locator("option")).toHaveCount(1);
  const { data } = await explorer.run();
  expect(data.viewer.role).toBe("VIEWER");
});

test("the choice outlives a reload, the token does not leave the tab", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Initech", "mia@initech.example");
  const stored = await page.evaluate(() => ({ local: JSON.stringify({ ...localStorage }), session: JSON.stringify({ ...sessionStorage }) }));
  expect(stored.local).toContain("mia@initech.example");
  expect(stored.local).not.toContain("eyJ");
  expect(stored.session).toContain("eyJ");
  await page.evaluate(() => sessionStorage.clear());
  await page.reload();
  await expect(explorer.who).toContainText("Initech: mia@initech.example, MEMBER");
});

test("a token that the server no longer takes is replaced without a word", async ({ explorer }) => {
  const { page } = explorer;
  explorer.expected.push(/401/);
  await explorer.openAs("Acme");
  await page.evaluate(() => {
    const key = "palisade:explorer:token";
    const held = JSON.parse(sessionStorage.getItem(key) ?? "{}") as { token: string };
    sessionStorage.setItem(key, JSON.stringify({ ...held, token: `${held.token.slice(0, -8)}AAAAAAAA` }));
  });
  await page.reload();
  await expect(explorer.who).toContainText("Acme: olivia@acme.example");
  expect((await explorer.run()).data.viewer.role).toBe("OWNER");
});

test("examples have real ids of the picked tenant", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  await explorer.example("One project by id");
  const ours = JSON.parse(await explorer.text("variables")) as { id: string };
  expect((await explorer.run()).data.project.id).toBe(ours.id);

  await explorer.pick("Globex");
  // The same operation finds nothing: the id is another tenant's.
  expect((await explorer.run()).data.project).toBeNull();
  await explorer.example("One project by id");
  const theirs = JSON.parse(await explorer.text("variables")) as { id: string };
  expect(theirs.id).not.toBe(ours.id);
  expect((await explorer.run()).data.project.id).toBe(theirs.id);

  await explorer.example("A page of projects, filtered");
  const page1 = JSON.parse(await explorer.text("variables")) as Record<string, unknown>;
  expect(Object.keys(page1)).toEqual(["first", "after", "filter", "orderBy"]);
  expect((await explorer.run()).data.projects.totalCount).toBeGreaterThan(0);

  await page.getByLabel("Find an example").fill("nothing is called that");
  await expect(page.getByText("No example is called that.")).toBeVisible();
});

test("a mutation runs, and its SQL is there with its cost", async ({ explorer, context }) => {
  const { page } = explorer;
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await explorer.openAs("Acme", "mia@acme.example");
  await explorer.example("Create comment");
  const { data } = await explorer.run();
  expect(data.createComment.userErrors).toEqual([]);
  expect(data.createComment.comment.body).toBe("Said in the explorer");

  await page.locator(".last-run").getByRole("button", { name: "Show SQL" }).click();
  const panel = page.getByRole("region", { name: "SQL", exact: true });
  await expect(panel).toContainText("mutation CreateComment, as mia@acme.example of Acme");
  await expect(panel.locator(".totals")).toContainText(/Round trips\d+/);
  const statements = panel.locator(".statements li");
  const insert = statements.filter({ hasText: /insert into "?comments/i }).first();
  await expect(insert).toBeVisible();
  // As many as the line below the answer says.
  await expect(explorer.lastRun).toContainText(`${await statements.count()} statement`);
  await insert.getByRole("button", { name: /^Copy statement/ }).click();
  await expect(insert.getByText("copied")).toBeVisible();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toMatch(/insert into "?comments/i);
  await explorer.shoot("mutation-sql");
});

test("statements that know their time and rows show them", async ({ explorer }) => {
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
  await explorer.show("SQL");
  const panel = page.getByRole("region", { name: "SQL", exact: true });
  await expect(panel.locator(".totals")).toContainText("In statements13 ms");
  await expect(panel.locator(".totals")).toContainText("Rows21");
  await expect(panel.locator(".statements li").first()).toContainText("0.4 ms · 1 row");
  await expect(panel.locator(".statements li").last()).toContainText("13 ms · 20 rows");
  await explorer.shoot("sql-timed");
});

test("a dry run writes nothing", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Globex");
  await page.getByLabel("Dry run").check();
  await explorer.example("Create organization");
  const { data } = await explorer.run();
  const { id } = data.createOrganization.organization;
  await expect(explorer.lastRun).toContainText("dry run: nothing was written");
  await explorer.write("operation", `{ organization(id: "${id}") { id } }`);
  await explorer.write("variables", "");
  expect((await explorer.run()).data.organization).toBeNull();
  // It is kept, and a query is not one.
  await page.reload();
  await expect(page.getByLabel("Dry run")).toBeChecked();
  await expect(explorer.lastRun).not.toContainText("dry run");
});

test("headers are sent, and kept over a reload", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  const key = `explorer-${Date.now()}`;
  await page.getByRole("button", { name: "Headers", exact: true }).click();
  await explorer.write("request-headers", JSON.stringify({ "Idempotency-Key": key }));
  await explorer.example("Create organization");
  expect(JSON.parse(await explorer.text("request-headers"))).toEqual({ "Idempotency-Key": key });
  const first = await explorer.run();
  expect(first.data.createOrganization.userErrors).toEqual([]);
  // GraphiQL writes what it keeps half a second later.
  for (const [kept, text] of [["tabState", key], ["headers", key], ["query", "CreateOrganization"]] as const) {
    await expect.poll(() => page.evaluate((kept) => localStorage.getItem(`graphiql:${kept}`) ?? "", kept)).toContain(text);
  }

  await page.reload();
  await expect(page.locator(".graphiql-query-editor .view-line").first()).toBeVisible();
  await expect(explorer.who).toContainText("Acme");
  await expect.poll(() => explorer.text("request-headers")).toContain(key);
  const second = await explorer.run();
  expect(second.data).toEqual(first.data);
  await expect(explorer.lastRun).toContainText("answered before");
});

test("a token in the address is taken, and taken out of it", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.open(`${dev()}/graphiql#token=${tokenB()}`);
  await expect(explorer.who).toContainText("Globex: olivia@globex.example, OWNER");
  await expect(explorer.tenant).toHaveValue("globex");
  expect(page.url()).toBe(`${dev()}/graphiql`);
  expect((await explorer.run()).data.viewer.tenant.slug).toBe("globex");
});

test("a pasted token says whose it is; a bad one says so", async ({ explorer }) => {
  const { page } = explorer;
  explorer.expected.push(/401/);
  await explorer.openAs("Acme");
  await page.getByRole("button", { name: "Paste a token" }).click();
  await page.getByLabel("Token", { exact: true }).fill(`Bearer ${tokenB()}`);
  await page.getByRole("button", { name: "Use it" }).click();
  await expect(page.getByText("Globex: olivia@globex.example, OWNER")).toBeVisible();
  expect((await explorer.run()).data.viewer.tenant.slug).toBe("globex");

  await page.getByRole("button", { name: "Paste a token" }).click();
  await page.getByLabel("Token", { exact: true }).fill("no token at all");
  await page.getByRole("button", { name: "Use it" }).click();
  await expect(explorer.who).toContainText("The server refuses the token");
  const { errors } = await explorer.run();
  expect(errors[0].extensions.code).toBe("UNAUTHENTICATED");
  await explorer.shoot("refused-token");
  await page.getByRole("button", { name: "Pick instead" }).click();
  await expect(explorer.who).toContainText("Acme");
});

test("what goes wrong is said plainly", async ({ explorer }) => {
  const { page } = explorer;
  explorer.expected.push(/ERR_FAILED|502|400/);
  await explorer.openAs("Acme");
  await page.route("**/graphql", (route) => route.abort());
  expect((await explorer.run()).errors[0].message).toContain("does not answer");
  await explorer.shoot("no-answer");

  await page.unroute("**/graphql");
  await page.route("**/graphql", (route) => route.fulfill({ status: 502, contentType: "text/html", body: "<h1>Bad gateway</h1>" }));
  await page.getByRole("button", { name: /^Execute query/ }).click();
  await expect.poll(() => explorer.text("response")).toContain("answered 502 and not JSON: <h1>Bad gateway</h1>");

  await page.unroute("**/graphql");
  await explorer.write("operation", "{ nothing }");
  await page.getByRole("button", { name: /^Execute query/ }).click();
  await expect.poll(() => explorer.text("response")).toContain("GRAPHQL_VALIDATION_FAILED");
  await expect(explorer.lastRun).toContainText("Errors · HTTP 400");

  await explorer.write("variables", "{ no json");
  await page.getByRole("button", { name: /^Execute query/ }).click();
  await expect.poll(() => explorer.text("response")).toContain("Request not sent. Variables");
});

test("the schema is documented", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  await explorer.show("Documentation Explorer");
  await page.getByRole("link", { name: "Query", exact: true }).first().click();
  await page.getByRole("link", { name: "projects", exact: true }).click();
  await expect(page.locator(".graphiql-doc-explorer")).toContainText("The projects of the tenant");
  // Once more from the server, by GraphiQL's own button.
  await page.getByRole("button", { name: /^Re-fetch GraphQL schema/ }).click();
  await expect(page.locator(".graphiql-doc-explorer")).toContainText("The projects of the tenant");
});

test("the builder builds, with the keyboard alone", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  await explorer.show("GraphiQL Explorer");
  const builder = page.locator(".graphiql-explorer-root");
  const currencies = builder.getByRole("button", { name: "currencies", exact: true });
  await currencies.focus();
  await page.keyboard.press("Enter");
  await expect(currencies).toHaveAttribute("aria-expanded", "true");
  const code = builder.locator(".graphiql-explorer-currencies").getByRole("button", { name: "code", exact: true });
  await code.focus();
  await page.keyboard.press("Space");
  await expect(code).toHaveAttribute("aria-pressed", "true");
  await expect.poll(() => explorer.text("operation")).toMatch(/currencies \{\s+code\s+\}/);
  expect((await explorer.run()).data.currencies.length).toBeGreaterThan(0);
});

test("the editor knows the schema", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  await explorer.write("operation", "{ proj }");
  await page.locator(".graphiql-query-editor .view-line").first().click();
  await page.keyboard.press("Home");
  for (let i = 0; i < 6; i++) await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Control+Space");
  await expect(page.locator(".suggest-widget")).toContainText("projects");
});

test("everything is reached with the keyboard", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.openAs("Acme");
  await page.locator("body").focus();
  const reached: string[] = [];
  for (let i = 0; i < 20; i++) {
    await page.keyboard.press("Tab");
    reached.push(
      await page.evaluate(() => {
        const at = document.activeElement as HTMLElement | null;
        return at?.getAttribute("aria-label") ?? at?.closest("label")?.innerText.split("\n")[0]?.trim() ?? at?.innerText ?? "";
      }),
    );
  }
  for (const wanted of ["Tenant", "Role", "User", "Paste a token", "Dry run", "Theme", "Hide Examples", "Show SQL", "Find an example"]) {
    expect(reached, reached.join(", ")).toContain(wanted);
  }
  await page.locator(".graphiql-query-editor .view-line").first().click();
  await page.keyboard.press("Control+Enter");
  expect((await explorer.answer()).data.viewer.role).toBe("OWNER");
});

test.describe("in the dark", () => {
  test.use({ colorScheme: "dark" });

  test("it follows the system, and can be switched", async ({ explorer }) => {
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
    await explorer.shoot("dark");
  });
});

test("it fits a narrow window", async ({ explorer }) => {
  const { page } = explorer;
  await page.setViewportSize({ width: 400, height: 800 });
  await explorer.openAs("Acme");
  for (const control of [explorer.tenant, explorer.role, explorer.user, page.getByRole("combobox", { name: "Theme" })]) {
    await fits(page, control);
  }
  await explorer.example(HEADLINE);
  expect((await explorer.run()).data.projects.nodes).toHaveLength(5);
  await explorer.lastRun.scrollIntoViewIfNeeded();
  await fits(page, explorer.lastRun);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
  expect(wide).toBe(false);
  await explorer.shoot("narrow");
  await explorer.isAccessible("narrow");
});

test("serve knows nobody and hands out nothing, but takes a token", async ({ explorer }) => {
  const { page } = explorer;
  await explorer.open(`${serve()}/graphiql`);
  await expect(explorer.who).toContainText("Nobody yet");
  await expect(explorer.tenant).toHaveCount(0);
  expect((await explorer.run()).errors[0].message).toContain("Nobody is picked");
  // The schema is there before there is a token, and so are the examples, without ids.
  await explorer.example("One project by id");
  expect(JSON.parse(await explorer.text("variables")).id).toContain("no project is visible");

  await page.getByLabel("Token", { exact: true }).fill(tokenA());
  await page.getByRole("button", { name: "Use it" }).click();
  await expect(explorer.who).toContainText("Acme: olivia@acme.example, OWNER");
  await explorer.example("One project by id");
  const { data } = await explorer.run();
  expect(data.project.id).toBe(JSON.parse(await explorer.text("variables")).id);
  await expect(explorer.lastRun).toContainText(/HTTP 200 · [\d.]+ ms$/);
  await explorer.show("SQL");
  await expect(page.getByText("This server does not tell what an operation cost")).toBeVisible();
  await explorer.shoot("serve");
  await explorer.isAccessible("serve");
  await page.getByRole("button", { name: "Forget it" }).click();
  await expect(explorer.who).toContainText("Nobody yet");
});

test("every file of the build is the server's own", async ({ explorer }) => {
  const { page } = explorer;
  const paths = new Set<string>();
  page.on("request", (request) => paths.add(new URL(request.url()).pathname));
  await explorer.openAs("Acme");
  // The workers are among them: the editor checks operations and variables in the background.
  for (const worker of ["editor.worker", "graphql.worker", "json.worker"]) {
    await expect.poll(() => [...paths].some((path) => path.includes(worker)), worker).toBe(true);
  }
  expect([...paths].filter((path) => !/^\/(graphiql(\/assets\/[\w.-]+|\/schema\.graphql)?|graphql|dev\/(people|token))$/.test(path))).toEqual([]);
  const index = readFileSync(join(import.meta.dirname, "../index.html"), "utf8");
  expect(index).not.toMatch(/https?:/);
});
