import { expect, test } from "./explorer";

for (const colorScheme of ["light", "dark"] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });

    test(`no state has a serious accessibility fault (${colorScheme})`, async ({ explorer }) => {
      const { page } = explorer;
      await explorer.openAs("Acme");
      await explorer.isAccessible("as opened");
      await explorer.example("Projects with everything");
      await explorer.run();
      await expect(explorer.lastRun).toContainText("Done");
      await explorer.shoot(`examples-${colorScheme}`);
      await explorer.isAccessible("an example with its answer");
      await page.locator(".graphiql-query-editor .view-lines").click();
      await page.keyboard.press("Control+Home");
      await page.keyboard.press("Enter");
      await page.keyboard.press("ArrowUp");
      await page.keyboard.type("{ proj");
      await expect(page.locator(".suggest-widget .focused .details-label")).toBeVisible();
      await explorer.shoot(`suggestions-${colorScheme}`);
      await explorer.isAccessible("suggestions", ".suggest-widget");
      await page.keyboard.press("Escape");
      await explorer.show("SQL");
      await explorer.shoot(`sql-${colorScheme}`);
      await explorer.isAccessible("the SQL");
      await explorer.show("Documentation Explorer");
      await page.getByRole("link", { name: "Query", exact: true }).first().click();
      await explorer.shoot(`docs-${colorScheme}`);
      await explorer.isAccessible("the documentation");
      await explorer.show("GraphiQL Explorer");
      await explorer.shoot(`builder-${colorScheme}`);
      await explorer.isAccessible("the builder");
      await explorer.show("History");
      await explorer.isAccessible("the history");
      await page.getByRole("button", { name: "Paste a token" }).click();
      await explorer.isAccessible("the form for a token", "#bar");
      await page.getByRole("button", { name: "Open settings dialog" }).click();
      await explorer.shoot(`settings-${colorScheme}`);
      await explorer.isAccessible("the settings");
    });
  });
}
