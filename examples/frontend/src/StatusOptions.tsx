import type { ProjectStatus } from "./gql/graphql";

/** Every status, for people. A status that the schema gains fails to compile until it has a name. */
const names: Record<ProjectStatus, string> = {
  PLANNED: "Planned",
  ACTIVE: "Active",
  ON_HOLD: "On hold",
  COMPLETED: "Completed",
  ARCHIVED: "Archived",
};

/** The options of a `select`. Archiving has a mutation of its own, so forms leave it out. */
export function StatusOptions({ archived }: { archived: boolean }) {
  return Object.entries(names)
    .filter(([status]) => archived || status !== "ARCHIVED")
    .map(([status, name]) => (
      <option key={status} value={status}>
        {name}
      </option>
    ));
}
