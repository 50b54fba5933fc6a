import { AxeBuilder } from "@axe-core/playwright";
import type { Request } from "@playwright/test";
import { createServer } from "vite";

import { createProject, execute, expect, graphqlUrl, type Pane, projectNames, renameProject, test, token } from "./app";

const isApiRequest = (request: Request) => new URL(request.url()).pathname === "/graphql";

async function loadAllPages(pane: Pane, total: number): Promise<string[]> {
  const loadMore = pane.root.getByRole("button", { name: "Load more" });
  for (let shown = 5; shown < total; shown += 5) {
    await loadMore.click();
    await expect(pane.titles).toHaveCount(Math.min(shown + 5, total));
  }
  await expect(loadMore).toBeHidden();
  return pane.titles.allInnerTexts();
}

test("two tenants side by side see their own rows, each row once", async ({ left, right }) => {
  const acme = await left.signIn("acme");
  const globex = await right.signIn("globex");
  const [acmeNames, globexNames] = [await projectNames(acme), await projectNames(globex)];
  expect(await loadAllPages(left, acmeNames.length)).toEqual(acmeNames);
  expect(await loadAllPages(right, globexNames.length)).toEqual(globexNames);
  expect(acmeNames.filter((name) => globexNames.includes(name))).toEqual([]);
  await expect(left.count).toHaveText(`${acmeNames.length} projects`);
});

test("the panes share no cache: both send the same requests, each with its own token", async ({ page, left, right }) => {
  const requests: { token: string; body: string }[] = [];
  page.on("request", (request) => {
    if (isApiRequest(request)) requests.push({ token: request.headers()["authorization"]!, body: request.postData()! });
  });
  const acme = await left.signIn("acme");
  const globex = await right.signIn("globex");
  const bodiesOf = (token: string) => requests.filter((sent) => sent.token === `Bearer ${token}`).map((sent) => sent.body);
  expect(bodiesOf(acme).length).toBe(2);
  expect(bodiesOf(globex)).toEqual(bodiesOf(acme));
  expect(requests.length).toBe(4);
});

test("an edit in one pane does not change the other", async ({ page, left, right }) => {
  const acme = await left.signIn("acme");
  const globex = await right.signIn("globex");
  await createProject(acme, "Side by side");
  const htmlBefore = await right.root.innerHTML();
  const namesBefore = await projectNames(globex);
  const requestTokens: string[] = [];
  const form = await left.openEditForm("Side by side");
  page.on("request", (request) => isApiRequest(request) && requestTokens.push(request.headers()["authorization"]!));
  await form.getByLabel("Name").fill("Side by side, edited");
  await form.getByLabel("Status").selectOption("ON_HOLD");
  await form.getByRole("button", { name: "Save" }).click();
  await expect(left.card("Side by side, edited")).toContainText("ON_HOLD");
  // The app sent the mutation, and then refetched the list that the mutation invalidated.
  expect(requestTokens).toEqual([`Bearer ${acme}`, `Bearer ${acme}`]);
  expect(await right.root.innerHTML()).toBe(htmlBefore);
  expect(await projectNames(globex)).toEqual(namesBefore);
});

test("after signing out, no data of the session remains", async ({ page, left, right }) => {
  await left.signIn("acme");
  await right.signIn("globex");
  const previousNames = await left.titles.allInnerTexts();
  await left.root.getByRole("button", { name: "Sign out" }).click();
  await expect(left.root.getByRole("heading", { name: "Sign in" })).toBeVisible();
  await expect(left.titles).toHaveCount(0);
  await expect(right.titles).not.toHaveCount(0);
  const stored = await page.evaluate(async () => ({
    storage: localStorage.length + sessionStorage.length,
    cookies: document.cookie,
    databases: (await indexedDB.databases()).length,
    fields: [...document.querySelectorAll("input")].map((input) => input.value).join(""),
  }));
  expect(stored).toEqual({ storage: 0, cookies: "", databases: 0, fields: "" });

  // Delay the responses to see what the new session shows before they arrive.
  let release = () => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  await page.route("**/graphql", async (route) => {
    await released;
    await route.continue();
  });
  await left.root.getByLabel("Token").fill(token("globex", "olivia"));
  await left.root.getByRole("button", { name: "Sign in" }).click();
  await expect(left.root.getByText("Loading…")).toBeVisible();
  for (const name of previousNames) await expect(left.root.getByText(name)).toHaveCount(0);
  release();
  await expect(left.titles).toHaveText(await right.titles.allInnerTexts());
});

test("no row is lost or repeated when a row is added above two pages", async ({ left }) => {
  const acme = await left.signIn("acme");
  const before = await projectNames(acme);
  await left.root.getByRole("button", { name: "Load more" }).click();
  await expect(left.titles).toHaveText(before.slice(0, 10));
  await left.root.getByRole("button", { name: "New project" }).click();
  const form = left.root.getByRole("form", { name: "New project" });
  await form.getByLabel("Name").fill("First of the list");
  await form.getByLabel("Organization").selectOption({ index: 1 });
  await form.getByRole("button", { name: "Create" }).click();
  await expect(left.titles).toHaveText(["First of the list", ...before.slice(0, 9)]);
  await expect(left.count).toHaveText(`${before.length + 1} projects`);
});

test("the search form filters and orders the list as the API does", async ({ left }) => {
  const acme = await left.signIn("acme");
  await left.search({ status: "ON_HOLD", order: "NAME" });
  const expectedNames = await projectNames(acme, [{ field: "NAME" }], { status: { eq: "ON_HOLD" } });
  await expect(left.count).toHaveText(`${expectedNames.length} projects`);
  expect(await loadAllPages(left, expectedNames.length)).toEqual(expectedNames);
  await createProject(acme, "Unlike any other");
  await left.search({ name: "Unlike" });
  await expect(left.count).toHaveText("0 projects");
  await left.search({ status: "PLANNED" });
  await expect(left.titles).toHaveText(["Unlike any other"]);
  await left.search({ name: "any other" });
  await expect(left.count).toHaveText("0 projects");
});

test("a project shows its invoices and its history", async ({ left }) => {
  const acme = await left.signIn("acme");
  const { projects } = await execute(
    acme,
    `{ projects(first: 1) { nodes { name
         invoices(first: 3) { nodes { number status total { amount currencyCode } } } } } }`,
  );
  const [first] = projects.nodes;
  await createProject(acme, "With a history");
  const card = left.card(first.name);
  await card.getByText("Invoices and history").click();
  const rows = first.invoices.nodes.map(
    ({ number, status, total }: { number: string | null; status: string; total: { amount: string; currencyCode: string } }) =>
      `${number ?? "–"}\t${status}\t${total.amount} ${total.currencyCode}`,
  );
  expect(await card.locator("tbody tr").allInnerTexts()).toEqual(rows);
  await left.search({ name: "With a history" });
  await left.card("With a history").getByText("Invoices and history").click();
  await expect(left.card("With a history").locator(".history")).toContainText(
    "project.created by olivia@acme.example",
  );
});

test("a member sees why the history is empty, and a viewer sees no edit buttons", async ({ left, right }) => {
  await left.signIn("acme", "mia");
  await left.root.getByText("Invoices and history").first().click();
  await expect(left.root.getByText("Only owners and admins can read the history.").first()).toBeVisible();
  await expect(left.root.locator(".history li")).toHaveCount(0);
  await right.signIn("acme", "vera");
  await expect(left.root.getByRole("button", { name: /^Edit/ })).toHaveCount(5);
  await expect(right.root.getByRole("button", { name: /^Edit|New project/ })).toHaveCount(0);
});

test("a conflict shows both versions, and the user can choose theirs", async ({ left }) => {
  const acme = await left.signIn("acme");
  const { id } = await createProject(acme, "Contested");
  const form = await left.openEditForm("Contested");
  await form.getByLabel("Description").fill("My description.");
  await renameProject(token("acme", "adam"), id, "Contested by Adam");
  await form.getByRole("button", { name: "Save" }).click();
  const conflict = form.getByRole("alert");
  await expect(conflict).toContainText("This project was changed after you opened it");
  expect(await conflict.locator("tbody tr").allInnerTexts()).toEqual([
    "Name\tContested\tContested by Adam",
    "Description\tMy description.\tOriginal description.",
    "Status\tPLANNED\tPLANNED",
  ]);
  await conflict.getByRole("button", { name: "Use theirs" }).click();
  await expect(form.getByLabel("Name")).toHaveValue("Contested by Adam");
  // The next save is based on the version that the user chose.
  await form.getByLabel("Description").fill("Agreed.");
  await form.getByRole("button", { name: "Save" }).click();
  await expect(left.card("Contested by Adam")).toContainText("Agreed.");
});

test("overwriting after a conflict reports a second conflict if the project has changed again", async ({ left }) => {
  const acme = await left.signIn("acme");
  const { id } = await createProject(acme, "Raced");
  const form = await left.openEditForm("Raced");
  await form.getByLabel("Description").fill("Mine.");
  await renameProject(acme, id, "Raced once");
  await form.getByRole("button", { name: "Save" }).click();
  await expect(form.getByRole("alert")).toContainText("Raced once");
  await renameProject(acme, id, "Raced twice");
  await form.getByRole("button", { name: "Overwrite with yours" }).click();
  await expect(form.getByRole("alert")).toContainText("Raced twice");
  await form.getByRole("button", { name: "Overwrite with yours" }).click();
  await expect(form).toHaveCount(0);
  const { project: saved } = await execute(acme, `{ project(id: "${id}") { name description version } }`);
  expect(saved).toEqual({ name: "Raced", description: "Mine.", version: 4 });
});

test("of two users of one tenant, the one who saves last gets the conflict", async ({ left, right }) => {
  const acme = await left.signIn("acme");
  await right.signIn("acme", "mia");
  await createProject(acme, "Shared");
  const [first, second] = [await left.openEditForm("Shared"), await right.openEditForm("Shared")];
  await first.getByLabel("Description").fill("Olivia was here.");
  await first.getByRole("button", { name: "Save" }).click();
  await expect(left.card("Shared")).toContainText("Olivia was here.");
  await second.getByLabel("Description").fill("Mia was here.");
  await second.getByRole("button", { name: "Save" }).click();
  await expect(second.getByRole("alert")).toContainText("Olivia was here.");
});

test("a user error is shown at its field", async ({ left }) => {
  const acme = await left.signIn("acme");
  const { id } = await createProject(acme, "Invalid");
  const form = await left.openEditForm("Invalid");
  const name = form.getByLabel("Name");
  await name.fill("");
  await form.getByLabel("Description").fill("x".repeat(10_001));
  await form.getByRole("button", { name: "Save" }).click();
  await expect(name).toHaveAttribute("aria-invalid", "true");
  await expect(name).toHaveAccessibleDescription(/\w/);
  await expect(form.getByLabel("Description")).toHaveAttribute("aria-invalid", "true");
  await expect(form.getByLabel("Status")).toHaveAttribute("aria-invalid", "false");
  const { project: saved } = await execute(acme, `{ project(id: "${id}") { version } }`);
  expect(saved.version).toBe(1);
  await name.fill("Valid");
  await form.getByLabel("Description").fill("");
  await form.getByRole("button", { name: "Save" }).click();
  await left.search({ name: "Valid" });
  await expect(left.card("Valid")).not.toContainText("Original description.");

  await left.root.getByRole("button", { name: "New project" }).click();
  const newForm = left.root.getByRole("form", { name: "New project" });
  await newForm.getByLabel("Organization").selectOption({ index: 1 });
  await newForm.getByRole("button", { name: "Create" }).click();
  await expect(newForm.getByLabel("Name")).toHaveAccessibleDescription(/\w/);
});

test("a project is created once although its request was repeated after a lost response", async ({ page, left }) => {
  const acme = await left.signIn("acme");
  const keys: (string | undefined)[] = [];
  await page.route("**/graphql", async (route) => {
    if (!route.request().postData()?.includes("mutation NewProject")) return route.continue();
    keys.push(route.request().headers()["idempotency-key"]);
    if (keys.length > 1) return route.continue();
    // The service creates the project, but the response does not reach the app.
    await route.fetch();
    return route.abort();
  });
  await left.root.getByRole("button", { name: "New project" }).click();
  const form = left.root.getByRole("form", { name: "New project" });
  await form.getByLabel("Name").fill("Only once");
  await form.getByLabel("Organization").selectOption({ index: 1 });
  await form.getByRole("button", { name: "Create" }).click();
  await expect(form.getByRole("alert")).toContainText("No response");
  const replayed = page.waitForResponse((response) => response.headers()["idempotency-replayed"] === "true");
  await form.getByRole("button", { name: "Try again" }).click();
  await replayed;
  await expect(form).toHaveCount(0);
  expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/);
  expect(keys).toEqual([keys[0], keys[0]]);
  expect(await projectNames(acme, [], { name: { eq: "Only once" } })).toHaveLength(1);
});

test("an invalid token leads back to the sign-in form", async ({ left, right }) => {
  await right.signIn("globex");
  await left.root.getByLabel("Token").fill("not.a.token");
  await left.root.getByRole("button", { name: "Sign in" }).click();
  await expect(left.root.getByRole("status")).toContainText("Sign in again");
  await expect(right.titles).not.toHaveCount(0);
});

test("a click on a demo user signs in", async ({ left }) => {
  await left.root.getByRole("group", { name: "Acme" }).getByRole("button", { name: /BILLING/ }).click();
  await expect(left.root.getByText("ben@acme.example, BILLING")).toBeVisible();
});

test("axe finds no violation in the light and the dark color scheme", async ({ page, left }) => {
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    await page.reload();
    expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
    const acme = await left.signIn("acme");
    const { id } = await createProject(acme, `Checked in ${colorScheme}`);
    const form = await left.openEditForm(`Checked in ${colorScheme}`);
    await form.getByLabel("Name").fill("Mine");
    await renameProject(acme, id, `Checked in ${colorScheme}, changed`);
    await form.getByRole("button", { name: "Save" }).click();
    await expect(form.getByRole("alert")).toBeVisible();
    await left.root.getByText("Invoices and history").first().click();
    expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
  }
});

test("the development server serves the page and forwards requests to the API", async ({ page }) => {
  const server = await createServer({ server: { host: "127.0.0.1", port: 0 }, logLevel: "silent" });
  await server.listen();
  try {
    const url = server.resolvedUrls!.local[0]!;
    expect((await fetch(new URL("/graphql", url), { method: "POST" })).status).toBe(
      (await fetch(graphqlUrl, { method: "POST" })).status,
    );
    await page.goto(url);
    await expect(page.getByRole("heading", { name: "Sign in" })).toHaveCount(2);
  } finally {
    await server.close();
  }
});
