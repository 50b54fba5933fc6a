/** Shared by the tests: a page object for the explorer, in a browser that can reach only the servers under test. */

import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { AxeBuilder } from "@axe-core/playwright";
import { test as base, expect, type Locator, type Page } from "@playwright/test";

export { expect };

function variable(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: the global setup did not run`);
  return value;
}

/** The URL of `palisade dev`. */
export const devUrl = () => variable("EXPLORER_DEV_URL");
/** The URL of `palisade serve --explorer --introspection` on the same database. */
export const serveUrl = () => variable("EXPLORER_SERVE_URL");
/** A token of the owner of Acme. */
export const tokenA = () => variable("EXPLORER_TOKEN_A");
/** A token of the owner of Globex. */
export const tokenB = () => variable("EXPLORER_TOKEN_B");

/** The directory of the screenshots: they are for a person to look at, and no test reads them. */
export const SCREENSHOTS_DIR = process.env.EXPLORER_SCREENSHOTS ?? join(tmpdir(), "palisade-explorer-screenshots");

type EditorName = "operation" | "variables" | "request-headers" | "response";

/** The explorer in a page. */
export class Explorer {
  /** Console errors that a test expects. */
  readonly expectedConsoleErrors: RegExp[] = [];

  readonly page: Page;

  constructor(page: Page) {
    this.page = page;
  }

  async open(url = `${devUrl()}/graphiql`) {
    await this.page.goto(url);
    await expect(this.page.getByRole("button", { name: /^Execute query/ })).toBeVisible();
    await expect(this.page.locator(".graphiql-query-editor .view-line").first()).toBeVisible();
    await expect.poll(() => this.page.evaluate(() => document.fonts.status)).toBe("loaded");
  }

  /** Opens the page and chooses a user of a tenant, by default the one that the page selects. */
  async openAs(tenant: string, user?: string) {
    await this.open();
    await this.chooseUser(tenant, user);
  }

  async chooseUser(tenant: string, user?: string) {
    await this.tenant.selectOption({ label: tenant });
    await expect(this.viewer).toContainText(`${tenant}: `);
    if (user) {
      await this.user.selectOption(user);
      await expect(this.viewer).toContainText(`${tenant}: ${user}, `);
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
  get viewer() {
    return this.page.locator("#bar .viewer");
  }
  get lastRun() {
    return this.page.locator(".last-run");
  }

  async showPanel(title: string) {
    const button = this.page.getByRole("button", { name: `Show ${title}`, exact: true }).and(this.page.locator(".graphiql-sidebar button"));
    if (await button.count()) await button.click();
    await expect(this.page.getByRole("button", { name: `Hide ${title}`, exact: true })).toBeVisible();
  }

  /** Opens an example, which creates a new tab. */
  async openExample(title: string) {
    await this.showPanel("Examples");
    await this.page.getByLabel("Find an example").fill(title);
    const tabs = await this.page.locator(".graphiql-tab").count();
    await this.page.locator(".example", { hasText: title }).first().click();
    await expect(this.page.locator(".notice")).toContainText("opened");
    await expect(this.page.locator(".graphiql-tab")).toHaveCount(tabs + 1);
  }

  /** Returns the whole content of an editor. Its view contains only the visible lines. */
  async content(editor: EditorName): Promise<string> {
    return this.page.evaluate((editor) => {
      const monaco = (globalThis as unknown as { __MONACO: typeof import("monaco-editor") }).__MONACO;
      const model = monaco.editor.getModels().find(({ uri }) => uri.path.includes(`${editor}.`));
      return model?.getValue() ?? "";
    }, editor);
  }

  /** Replaces the content of an editor. */
  async setContent(editor: EditorName, text: string) {
    await this.page.evaluate(
      ({ editor, text }) => {
        const monaco = (globalThis as unknown as { __MONACO: typeof import("monaco-editor") }).__MONACO;
        monaco.editor.getModels().find(({ uri }) => uri.path.includes(`${editor}.`))!.setValue(text);
      },
      { editor, text },
    );
  }

  /** Runs the operation in the editor and returns the response that the page shows. */
  async run() {
    await this.page.getByRole("button", { name: /^Execute query/ }).click();
    return this.response();
  }

  /** Returns the response that the page shows. Its type depends on the operation, so it is `any`. */
  async response(): Promise<any> {
    await expect.poll(() => this.content("response")).not.toBe("");
    return JSON.parse(await this.content("response"));
  }

  /** Fails the test if axe finds a serious violation in the page, or in the element `selector`. */
  async expectAccessible(state: string, selector?: string) {
    const axe = new AxeBuilder({ page: this.page });
    const { violations } = await (selector ? axe.include(selector) : axe).analyze();
    const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    const report = serious.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.map(({ html, failureSummary }) => `    ${html.slice(0, 200)}\n      ${failureSummary}`).join("\n")}`);
    expect.soft(report, state).toEqual([]);
  }

  async screenshot(name: string) {
    mkdirSync(SCREENSHOTS_DIR, { recursive: true });
    await this.page.screenshot({ path: join(SCREENSHOTS_DIR, `${name}.png`) });
  }
}

export const test = base.extend<{ explorer: Explorer }>({
  explorer: async ({ page }, use) => {
    const ownOrigins = new Set([new URL(devUrl()).origin, new URL(serveUrl()).origin]);
    const foreignRequests: string[] = [];
    const consoleErrors: string[] = [];
    await page.context().route(
      (url) => !ownOrigins.has(url.origin),
      (route) => {
        foreignRequests.push(route.request().url());
        return route.abort();
      },
    );
    page.on("console", (message) => {
      if (message.type() === "error" || /Content.Security.Policy/i.test(message.text())) consoleErrors.push(message.text());
    });
    page.on("pageerror", (error) => consoleErrors.push(error.stack ?? String(error)));
    const explorer = new Explorer(page);
    await use(explorer);
    expect(foreignRequests, "requests to other origins").toEqual([]);
    const unexpected = consoleErrors.filter((error) => !explorer.expectedConsoleErrors.some((pattern) => pattern.test(error)));
    expect(unexpected, "console errors").toEqual([]);
  },
});

/** Fails the test if an element is not within the width of the window. */
export async function expectFits(page: Page, element: Locator) {
  const [box, size] = [await element.boundingBox(), page.viewportSize()];
  expect(box && size && box.x >= 0 && box.x + box.width <= size.width + 1, String(element)).toBeTruthy();
}
