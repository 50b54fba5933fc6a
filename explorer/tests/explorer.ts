/** What the tests share: a page that may reach nothing but its own server, and hands for GraphiQL. */

import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { AxeBuilder } from "@axe-core/playwright";
import { test as base, expect, type Locator, type Page } from "@playwright/test";

export { expect };

function given(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: the global setup did not run`);
  return value;
}

/** `palisade dev`. */
export const dev = () => given("EXPLORER_DEV");
/** `palisade serve --explorer --introspection`, on the same database. */
export const serve = () => given("EXPLORER_SERVE");
export const tokenA = () => given("EXPLORER_TOKEN_A");
export const tokenB = () => given("EXPLORER_TOKEN_B");

/** Out of the tree, for somebody to look at. */
export const SHOTS = process.env.EXPLORER_SCREENSHOTS ?? join(tmpdir(), "palisade-explorer-screenshots");

type EditorName = "operation" | "variables" | "request-headers" | "response";

/** GraphiQL in a page. */
export class Explorer {
  /** Errors that a test expects on the console. */
  readonly expected: RegExp[] = [];

  readonly page: Page;

  constructor(page: Page) {
    this.page = page;
  }

  async open(address = `${dev()}/graphiql`) {
    await this.page.goto(address);
    await expect(this.page.getByRole("button", { name: /^Execute query/ })).toBeVisible();
    await expect(this.page.locator(".graphiql-query-editor .view-line").first()).toBeVisible();
    await expect.poll(() => this.page.evaluate(() => document.fonts.status)).toBe("loaded");
  }

  /** Opened, and somebody is picked. */
  async openAs(tenant: string, user?: string) {
    await this.open();
    await this.pick(tenant, user);
  }

  async pick(tenant: string, user?: string) {
    await this.tenant.selectOption({ label: tenant });
    await expect(this.who).toContainText(`${tenant}: `);
    if (user) {
      await this.user.selectOption(user);
      await expect(this.who).toContainText(`${tenant}: ${user}, `);
    }
  }

  get tenant() {
    return this.page.getByRole("combobox", { name: "Tenant", exact: true });
  }
  get role() {
    return this.page.getByRole("combobox", { name: "Role", exact: true });
  }
  get user() {
    return this.page.getByRole("combobox", { name: "User", exact: true });
  }
  get who() {
    return this.page.locator("#bar .who");
  }
  get lastRun() {
    return this.page.locator(".last-run");
  }

  async show(plugin: string) {
    const show = this.page.getByRole("button", { name: `Show ${plugin}`, exact: true }).and(this.page.locator(".graphiql-sidebar button"));
    if (await show.count()) await show.click();
    await expect(this.page.getByRole("button", { name: `Hide ${plugin}`, exact: true })).toBeVisible();
  }

  /** Opens an example in a tab of its own. */
  async example(title: string) {
    await this.show("Examples");
    await this.page.getByLabel("Find an example").fill(title);
    const tabs = await this.page.locator(".graphiql-tab").count();
    await this.page.locator(".example", { hasText: title }).first().click();
    await expect(this.page.locator(".said")).toContainText("opened");
    await expect(this.page.locator(".graphiql-tab")).toHaveCount(tabs + 1);
  }

  /** The text of an editor, as its model has it: the view shows only some lines. */
  async text(editor: EditorName): Promise<string> {
    return this.page.evaluate((editor) => {
      const monaco = (globalThis as unknown as { __MONACO: typeof import("monaco-editor") }).__MONACO;
      const model = monaco.editor.getModels().find(({ uri }) => uri.path.includes(`${editor}.`));
      return model?.getValue() ?? "";
    }, editor);
  }

  async write(editor: EditorName, text: string) {
    await this.page.evaluate(
      ({ editor, text }) => {
        const monaco = (globalThis as unknown as { __MONACO: typeof import("monaco-editor") }).__MONACO;
        monaco.editor.getModels().find(({ uri }) => uri.path.includes(`${editor}.`))!.setValue(text);
      },
      { editor, text },
    );
  }

  /** Runs what is in the editor; answers what is shown. */
  async run() {
    await this.page.getByRole("button", { name: /^Execute query/ }).click();
    return this.answer();
  }

  /** Any, because it has the shape of what was asked. */
  async answer(): Promise<any> {
    await expect.poll(() => this.text("response")).not.toBe("");
    return JSON.parse(await this.text("response"));
  }

  /** No serious fault for those who cannot see the page, or not well. */
  async isAccessible(what: string, within?: string) {
    const axe = new AxeBuilder({ page: this.page });
    const { violations } = await (within ? axe.include(within) : axe).analyze();
    const grave = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    const told = grave.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.map(({ html, failureSummary }) => `    ${html.slice(0, 200)}\n      ${failureSummary}`).join("\n")}`);
    expect.soft(told, what).toEqual([]);
  }

  async shoot(name: string) {
    mkdirSync(SHOTS, { recursive: true });
    await this.page.screenshot({ path: join(SHOTS, `${name}.png`) });
  }
}

export const test = base.extend<{ explorer: Explorer }>({
  explorer: async ({ page }, use) => {
    const own = new Set([new URL(dev()).origin, new URL(serve()).origin]);
    const strangers: string[] = [];
    const complaints: string[] = [];
    await page.context().route(
      (url) => !own.has(url.origin),
      (route) => {
        strangers.push(route.request().url());
        return route.abort();
      },
    );
    page.on("console", (message) => {
      if (message.type() === "error" || /Content.Security.Policy/i.test(message.text())) complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(error.stack ?? String(error)));
    const explorer = new Explorer(page);
    await use(explorer);
    expect(strangers, "requests to other machines").toEqual([]);
    const unexpected = complaints.filter((complaint) => !explorer.expected.some((known) => known.test(complaint)));
    expect(unexpected, "errors on the console").toEqual([]);
  },
});

/** Whether something is on the screen as a whole. */
export async function fits(page: Page, what: Locator) {
  const [box, size] = [await what.boundingBox(), page.viewportSize()];
  expect(box && size && box.x >= 0 && box.x + box.width <= size.width + 1, String(what)).toBeTruthy();
}
