import { AxeBuilder } from "@axe-core/playwright";
import type { Request } from "@playwright/test";
import { createServer } from "vite";

import { ask, expect, names, type Pane, project, rename, service, test, token } from "./app";

const isApi = (request: Request) => new URL(request.url()).pathname === "/graphql";

async function loadAll(pane: Pane, total: number): Promise<string[]> {
  const more = pane.root.getByRole("button", { name: "Load more" });
  for (let shown = 5; shown < total; shown += 5) {
    await more.click();
    await expect(pane.titles).toHaveCount(Math.min(shown + 5, total));
  }
  await expect(more).toBeHidden();
  return pane.titles.allInnerTexts();
}

test("two tenants side by side see their own rows, each page once", async ({ left, right }) => {
  const acme = await left.signIn("acme");
  const globex = await right.signIn("globex");
  const [mine, theirs] = [await names(acme), await names(globex)];
  expect(await loadAll(left, mine.length)).toEqual(mine);
  expect(await loadAll(right, theirs.length)).toEqual(theirs);
  expect(mine.filter((name) => theirs.includes(name))).toEqual([]);
  await expect(left.count).toHaveText(`${mine.length} projects`);
});

test("the panes share no cache: both ask for the same, each with its own token", async ({ page, left, right }) => {
  const asked: { token: string; body: string }[] = [];
  page.on("request", (request) => {
    if (isApi(request)) asked.push({ token: request.headers()["authorization"]!, body: request.postData()! });
  });
  const acme = await left.signIn("acme");
  const globex = await right.signIn("globex");
  const of = (wanted: string) => asked.filter((one) => one.token === `Bearer ${wanted}`).map((one) => one.body);
  expect(of(acme).length).toBe(2);
  expect(of(globex)).toEqual(of(acme));
  expect(asked.length).toBe(4);
});

test("an edit on one side touches nothing on the other", async ({ page, left, right }) => {
  const acme = await left.signIn("acme");
  const globex = await right.signIn("globex");
  await project(acme, "Side by side");
  const before = await right.root.innerHTML();
  const rows = await names(globex);
  const asked: string[] = [];
  const form = await left.edit("Side by side");
  page.on("request", (request) => isApi(request) && asked.push(request.headers()["authorization"]!));
  await form.getByLabel("Name").fill("Side by side, edited");
  await form.getByLabel("Status").selectOption("ON_HOLD");
  await form.getByRole("button", { name: "Save" }).click();
  await expect(left.card("Side by side, edited")).toContainText("ON_HOLD");
  // The write, and the list that it made stale.
  expect(asked).toEqual([`Bearer ${acme}`, `Bearer ${acme}`]);
  expect(await right.root.innerHTML()).toBe(before);
  expect(await names(globex)).toEqual(rows);
});

test("who signs out leaves nothing behind", async ({ page, left, right }) => {
  await left.signIn("acme");
  await right.signIn("globex");
  const gone = await left.titles.allInnerTexts();
  await left.root.getByRole("button", { name: "Sign out" }).click();
  await expect(left.root.getByRole("heading", { name: "Sign in" })).toBeVisible();
  await expect(left.titles).toHaveCount(0);
  await expect(right.titles).not.toHaveCount(0);
  const kept = await page.evaluate(async () => ({
    storage: localStorage.length + sessionStorage.length,
    cookies: document.cookie,
    databases: (await indexedDB.databases()).length,
    fields: [...document.querySelectorAll("input")].map((input) => input.value).join(""),
  }));
  expect(kept).toEqual({ storage: 0, cookies: "", databases: 0, fields: "" });

  // Held back, so that whatever the new session shows before its answer can be seen.
  let answer = () => {};
  const held = new Promise<void>((resolve) => (answer = resolve));
  await page.route("**/graphql", async (route) => {
    await held;
    await route.continue();
  });
  await left.root.getByLabel("Token").fill(token("globex", "olivia"));
  await left.root.getByRole("button", { name: "Sign in" }).click();
  await expect(left.root.getByText("Loading…")).toBeVisible();
  for (const name of gone) await expect(left.root.getByText(name)).toHaveCount(0);
  answer();
  await expect(left.titles).toHaveText(await right.titles.allInnerTexts());
});

test("pages stay whole when a row is added above them", async ({ left }) => {
  const acme = await left.signIn("acme");
  const before = await names(acme);
  await left.root.getByRole("button", { name: "Load more" }).click();
  await expect(left.titles).toHaveText(before.slice(0, 10));
  await left.root.getByRole("button", { name: "New project" }).click();
  const form = left.root.getByRole("form", { name: "New project" });
  await form.getByLabel("Name").fill("Above all");
  await form.getByLabel("Organization").selectOption({ index: 1 });
  await form.getByRole("button", { name: "Create" }).click();
  await expect(left.titles).toHaveText(["Above all", ...before.slice(0, 9)]);
  await expect(left.count).toHaveText(`${before.length + 1} projects`);
});

test("filter and order are the API's", async ({ left }) => {
  const acme = await left.signIn("acme");
  await left.search({ status: "ON_HOLD", order: "NAME" });
  const wanted = await names(acme, [{ field: "NAME" }], { status: { eq: "ON_HOLD" } });
  await expect(left.count).toHaveText(`${wanted.length} projects`);
  expect(await loadAll(left, wanted.length)).toEqual(wanted);
  await project(acme, "Unlike any other");
  await left.search({ name: "Unlike" });
  await expect(left.count).toHaveText("0 projects");
  await left.search({ status: "PLANNED" });
  await expect(left.titles).toHaveText(["Unlike any other"]);
  await left.search({ name: "any other" });
  await expect(left.count).toHaveText("0 projects");
});

test("invoices and history stand below their project", async ({ left }) => {
  const acme = await left.signIn("acme");
  const { projects } = await ask(
    acme,
    `{ projects(first: 1) { nodes { name
         invoices(first: 3) { nodes { number status total { amount currencyCode } } } } } }`,
  );
  const [first] = projects.nodes;
  await project(acme, "With a history");
  const card = left.card(first.name);
  await card.getByText("Invoices and history").click();
  const rows = first.invoices.nodes.map(
    (one: { number: string | null; status: string; total: { amount: string; currencyCode: string } }) =>
      `${one.number ?? "–"}\t${one.status}\t${one.total.amount} ${one.total.currencyCode}`,
  );
  expect(await card.locator("tbody tr").allInnerTexts()).toEqual(rows);
  await left.search({ name: "With a history" });
  await left.card("With a history").getByText("Invoices and history").click();
  await expect(left.card("With a history").locator(".history")).toContainText(
    "project.created by olivia@acme.example",
  );
});

test("a member reads why the history is empty; a viewer is offered no edits", async ({ left, right }) => {
  await left.signIn("acme", "mia");
  await left.root.getByText("Invoices and history").first().click();
  await expect(left.root.getByText("Only owners and admins see the history.").first()).toBeVisible();
  await expect(left.root.locator(".history li")).toHaveCount(0);
  await right.signIn("acme", "vera");
  await expect(left.root.getByRole("button", { name: /^Edit/ })).toHaveCount(5);
  await expect(right.root.getByRole("button", { name: /^Edit|New project/ })).toHaveCount(0);
});

test("a conflict shows both versions; theirs can be taken", async ({ left }) => {
  const acme = await left.signIn("acme");
  const { id } = await project(acme, "Contested");
  const form = await left.edit("Contested");
  await form.getByLabel("Description").fill("As I want it.");
  await rename(token("acme", "adam"), id, "Contested by Adam");
  await form.getByRole("button", { name: "Save" }).click();
  const conflict = form.getByRole("alert");
  await expect(conflict).toContainText("Somebody changed this project");
  expect(await conflict.locator("tbody tr").allInnerTexts()).toEqual([
    "Name\tContested\tContested by Adam",
    "Description\tAs I want it.\tAs it was.",
    "Status\tPLANNED\tPLANNED",
  ]);
  await conflict.getByRole("button", { name: "Take theirs" }).click();
  await expect(form.getByLabel("Name")).toHaveValue("Contested by Adam");
  // What was taken is the version that the next save is based on.
  await form.getByLabel("Description").fill("Agreed.");
  await form.getByRole("button", { name: "Save" }).click();
  await expect(left.card("Contested by Adam")).toContainText("Agreed.");
});

test("a conflict can be overwritten, and is asked again if somebody was faster still", async ({ left }) => {
  const acme = await left.signIn("acme");
  const { id } = await project(acme, "Raced");
  const form = await left.edit("Raced");
  await form.getByLabel("Description").fill("Mine.");
  await rename(acme, id, "Raced once");
  await form.getByRole("button", { name: "Save" }).click();
  await expect(form.getByRole("alert")).toContainText("Raced once");
  await rename(acme, id, "Raced twice");
  await form.getByRole("button", { name: "Overwrite with yours" }).click();
  await expect(form.getByRole("alert")).toContainText("Raced twice");
  await form.getByRole("button", { name: "Overwrite with yours" }).click();
  await expect(form).toHaveCount(0);
  const { project: now } = await ask(acme, `{ project(id: "${id}") { name description version } }`);
  expect(now).toEqual({ name: "Raced", description: "Mine.", version: 4 });
});

test("two people of one tenant: who saves last is asked", async ({ left, right }) => {
  const acme = await left.signIn("acme");
  await right.signIn("acme", "mia");
  await project(acme, "Shared");
  const [mine, theirs] = [await left.edit("Shared"), await right.edit("Shared")];
  await mine.getByLabel("Description").fill("Olivia was here.");
  await mine.getByRole("button", { name: "Save" }).click();
  await expect(left.card("Shared")).toContainText("Olivia was here.");
  await theirs.getByLabel("Description").fill("Mia was here.");
  await theirs.getByRole("button", { name: "Save" }).click();
  await expect(theirs.getByRole("alert")).toContainText("Olivia was here.");
});

test("a refusal stands at its field", async ({ left }) => {
  const acme = await left.signIn("acme");
  const { id } = await project(acme, "Refused");
  const form = await left.edit("Refused");
  const name = form.getByLabel("Name");
  await name.fill("");
  await form.getByLabel("Description").fill("x".repeat(10_001));
  await form.getByRole("button", { name: "Save" }).click();
  await expect(name).toHaveAttribute("aria-invalid", "true");
  await expect(name).toHaveAccessibleDescription(/\w/);
  await expect(form.getByLabel("Description")).toHaveAttribute("aria-invalid", "true");
  await expect(form.getByLabel("Status")).toHaveAttribute("aria-invalid", "false");
  const { project: now } = await ask(acme, `{ project(id: "${id}") { version } }`);
  expect(now.version).toBe(1);
  await name.fill("Accepted");
  await form.getByLabel("Description").fill("");
  await form.getByRole("button", { name: "Save" }).click();
  await left.search({ name: "Accepted" });
  await expect(left.card("Accepted")).not.toContainText("As it was.");

  await left.root.getByRole("button", { name: "New project" }).click();
  const creation = left.root.getByRole("form", { name: "New project" });
  await creation.getByLabel("Organization").selectOption({ index: 1 });
  await creation.getByRole("button", { name: "Create" }).click();
  await expect(creation.getByLabel("Name")).toHaveAccessibleDescription(/\w/);
});

test("a creation whose answer was lost is repeated, and done once", async ({ page, left }) => {
  const acme = await left.signIn("acme");
  const keys: (string | undefined)[] = [];
  await page.route("**/graphql", async (route) => {
    if (!route.request().postData()?.includes("mutation NewProject")) return route.continue();
    keys.push(route.request().headers()["idempotency-key"]);
    if (keys.length > 1) return route.continue();
    // The service does it, the client never hears of it.
    await route.fetch();
    return route.abort();
  });
  await left.root.getByRole("button", { name: "New project" }).click();
  const form = left.root.getByRole("form", { name: "New project" });
  await form.getByLabel("Name").fill("Only once");
  await form.getByLabel("Organization").selectOption({ index: 1 });
  await form.getByRole("button", { name: "Create" }).click();
  await expect(form.getByRole("alert")).toContainText("did not answer");
  const repeated = page.waitForResponse((response) => response.headers()["idempotency-replayed"] === "true");
  await form.getByRole("button", { name: "Try again" }).click();
  await repeated;
  await expect(form).toHaveCount(0);
  expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/);
  expect(keys).toEqual([keys[0], keys[0]]);
  expect(await names(acme, [], { name: { eq: "Only once" } })).toHaveLength(1);
});

test("a token that proves nothing leads back to the sign-in", async ({ left, right }) => {
  await right.signIn("globex");
  await left.root.getByLabel("Token").fill("not.a.token");
  await left.root.getByRole("button", { name: "Sign in" }).click();
  await expect(left.root.getByRole("status")).toContainText("Sign in again");
  await expect(right.titles).not.toHaveCount(0);
});

test("demo users are a click away", async ({ left }) => {
  await left.root.getByRole("group", { name: "Acme" }).getByRole("button", { name: /BILLING/ }).click();
  await expect(left.root.getByText("ben@acme.example, BILLING")).toBeVisible();
});

test("nothing that axe knows is wrong, in light and in dark", async ({ page, left }) => {
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    await page.reload();
    expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
    const acme = await left.signIn("acme");
    const { id } = await project(acme, `Seen in ${colorScheme}`);
    const form = await left.edit(`Seen in ${colorScheme}`);
    await form.getByLabel("Name").fill("Mine");
    await rename(acme, id, `Seen in ${colorScheme}, changed`);
    await form.getByRole("button", { name: "Save" }).click();
    await expect(form.getByRole("alert")).toBeVisible();
    await left.root.getByText("Invoices and history").first().click();
    expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
  }
});

test("the development server serves the page and passes the API on", async ({ page }) => {
  const server = await createServer({ server: { host: "127.0.0.1", port: 0 }, logLevel: "silent" });
  await server.listen();
  try {
    const address = server.resolvedUrls!.local[0]!;
    expect((await fetch(new URL("/graphql", address), { method: "POST" })).status).toBe(
      (await fetch(service, { method: "POST" })).status,
    );
    await page.goto(address);
    await expect(page.getByRole("heading", { name: "Sign in" })).toHaveCount(2);
  } finally {
    await server.close();
  }
});
