import type { ProjectStatus } from "./gql/graphql";

/** The label of each status. If the schema gets a new status, this does not compile until it has a label. */
const labels: Record<ProjectStatus, string> = {
  PLANNED: "Planned",
  ACTIVE: "Active",
  ON_HOLD: "On hold",
  COMPLETED: "Completed",
  ARCHIVED: "Archived",
};

/** The options of a `select`. Forms leave out `ARCHIVED`, because a separate mutation archives a project. */
export function StatusOptions({ withArchived }: { withArchived: boolean }) {
  return Object.entries(labels)
    .filter(([status]) => withArchived || status !== "ARCHIVED")
    .map(([status, label]) => (
      <option key={status} value={status}>
        {label}
      </option>
    ));
}
