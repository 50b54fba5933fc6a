import { expect, test } from "./explorer";

for (const colorScheme of ["light", "dark"] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });

    test(`axe finds no serious violation in any panel (${colorScheme})`, async ({ explorer }) => {
      const { page } = explorer;
      await explorer.openAs("Acme");
      await explorer.expectAccessible("the page as it opens");
      await explorer.openExample("Projects with all their relations");
      await explorer.run();
      await expect(explorer.lastRun).toContainText("Done");
      await explorer.screenshot(`examples-${colorScheme}`);
      await explorer.expectAccessible("an example with its response");
      await page.locator(".graphiql-query-editor .view-lines").click();
      await page.keyboard.press("Control+Home");
      await page.keyboard.press("Enter");
      await page.keyboard.press("ArrowUp");
      await page.keyboard.type("{ proj");
      await expect(page.locator(".suggest-widget .focused .details-label")).toBeVisible();
      await explorer.screenshot(`suggestions-${colorScheme}`);
      await explorer.expectAccessible("suggestions", ".suggest-widget");
      await page.keyboard.press("Escape");
      await explorer.showPanel("SQL");
      await explorer.screenshot(`sql-${colorScheme}`);
      await explorer.expectAccessible("the SQL panel");
      await explorer.showPanel("Documentation Explorer");
      await page.getByRole("link", { name: "Query", exact: true }).first().click();
      await explorer.screenshot(`docs-${colorScheme}`);
      await explorer.expectAccessible("the documentation");
      await explorer.showPanel("GraphiQL Explorer");
      await explorer.screenshot(`builder-${colorScheme}`);
      await explorer.expectAccessible("the builder");
      await explorer.showPanel("History");
      await explorer.expectAccessible("the history");
      await page.getByRole("button", { name: "Paste a token" }).click();
      await explorer.expectAccessible("the token form", "#bar");
      await page.getByRole("button", { name: "Open settings dialog" }).click();
      await explorer.screenshot(`settings-${colorScheme}`);
      await explorer.expectAccessible("the settings");
    });
  });
}
