import { useState } from "react";
import { useQuery } from "urql";

import { graphql } from "./gql";
import type { ProjectFilter, ProjectOrder } from "./gql/graphql";
import { Problem } from "./Problem";
import { Project } from "./Project";

/** Which projects, in which order. */
export type View = { filter: ProjectFilter; orderBy: ProjectOrder[] };

const ProjectsPage = graphql(`
  query ProjectsPage($after: String, $filter: ProjectFilter, $orderBy: [ProjectOrder!], $count: Boolean!) {
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

/** The list, a page at a time. */
export function Projects({ view }: { view: View }) {
  return <Page key={JSON.stringify(view)} view={view} after={null} />;
}

/**
 * One page, and below it the next once somebody asked for it. The next page begins at the cursor where
 * this one ends *now*: when a change fetches the pages anew, no row is lost or shown twice in between.
 */
function Page({ view, after }: { view: View; after: string | null }) {
  const [more, setMore] = useState(false);
  const [{ data, error, fetching }, ask] = useQuery({
    query: ProjectsPage,
    // The count costs a statement of its own, so only the first page asks for it.
    variables: { ...view, after, count: after === null },
  });
  if (error) return <Problem error={error} onRetry={() => ask({ requestPolicy: "network-only" })} />;
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
        (more ? (
          <Page view={view} after={pageInfo.endCursor ?? null} />
        ) : (
          <button onClick={() => setMore(true)}>Load more</button>
        ))}
    </>
  );
}
