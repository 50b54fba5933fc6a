import { useContext, useState } from "react";
import { useQuery } from "urql";

import { graphql } from "./gql";
import type { ProjectFilter, ProjectOrder } from "./gql/graphql";
import { Permissions, Project } from "./Project";
import { RequestError } from "./RequestError";

/** The filter and the sort order of the list. */
export type View = { filter: ProjectFilter; orderBy: ProjectOrder[] };

const ProjectsPage = graphql(`
  query ProjectsPage(
    $after: String
    $filter: ProjectFilter
    $orderBy: [ProjectOrder!]
    $count: Boolean!
    $history: Boolean!
  ) {
    projects(first: 5, after: $after, filter: $filter, orderBy: $orderBy) {
      totalCount @include(if: $count)
      nodes {
        id
        ...ProjectCard
      }
      pageInfo {
        hasNextPage
        endCursor
      }
    }
  }
`);

/** The list of projects, which grows by one page at a time. */
export function Projects({ view }: { view: View }) {
  return <Page key={JSON.stringify(view)} view={view} after={null} />;
}

/**
 * One page, and below it the next page once the user clicked "Load more". The next page always starts at the current
 * end cursor of this page, so no row is missing or shown twice after the pages are refetched.
 */
function Page({ view, after }: { view: View; after: string | null }) {
  const permissions = useContext(Permissions);
  const [showNext, setShowNext] = useState(false);
  const [{ data, error, fetching }, refetch] = useQuery({
    query: ProjectsPage,
    variables: {
      ...view,
      after,
      // Only the first page requests the count, because it takes an extra SQL statement.
      count: after === null,
      // Without this permission, the list would be the error FORBIDDEN.
      history: permissions.includes("READ_AUDIT_LOG"),
    },
  });
  if (error) return <RequestError error={error} onRetry={() => refetch({ requestPolicy: "network-only" })} />;
  if (!data) return <p role="status">{fetching ? "Loading…" : ""}</p>;
  const { nodes, pageInfo, totalCount } = data.projects;
  return (
    <>
      {totalCount !== undefined && <p role="status">{totalCount} projects</p>}
      <ul className="projects" aria-label={after === null ? "Projects" : "More projects"}>
        {nodes.map((project) => (
          <Project key={project.id} project={project} />
        ))}
      </ul>
      {pageInfo.hasNextPage &&
        (showNext ? (
          <Page view={view} after={pageInfo.endCursor ?? null} />
        ) : (
          <button onClick={() => setShowNext(true)}>Load more</button>
        ))}
    </>
  );
}
