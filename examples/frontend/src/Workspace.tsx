import { useState } from "react";
import { useQuery } from "urql";

import { CreateProject } from "./CreateProject";
import { graphql } from "./gql";
import type { ProjectOrderField, ProjectStatus } from "./gql/graphql";
import { Permissions } from "./Project";
import { Projects, type View } from "./Projects";
import { RequestError } from "./RequestError";
import { StatusOptions } from "./StatusOptions";

const Viewer = graphql(`
  query Viewer {
    viewer {
      role
      permissions
      user {
        id
        email
      }
      tenant {
        id
        name
      }
    }
  }
`);

/** The page of one session. The components in it do not know which tenant they show. */
export function Workspace({ onSignOut }: { onSignOut: () => void }) {
  const [{ data, error }] = useQuery({ query: Viewer });
  const [view, setView] = useState<View>(toView("", "", "CREATED_AT"));
  const [creating, setCreating] = useState(false);
  if (error) return <RequestError error={error} />;
  if (!data) return <p role="status">Loading…</p>;
  const { viewer } = data;
  return (
    <Permissions value={viewer.permissions}>
      <header className="viewer">
        <h2>{viewer.tenant?.name}</h2>
        <span>
          {viewer.user?.email}, {viewer.role}
        </span>
        <button onClick={onSignOut}>Sign out</button>
      </header>
      <Search onView={setView} />
      {viewer.permissions.includes("EDIT_RECORDS") &&
        (creating ? (
          <CreateProject onDone={() => setCreating(false)} />
        ) : (
          <button onClick={() => setCreating(true)}>New project</button>
        ))}
      <Projects view={view} />
    </Permissions>
  );
}

/** Translates the search form into the API's filter and sort order. A condition that is undefined has no effect. */
function toView(status: ProjectStatus | "", name: string, order: ProjectOrderField): View {
  return {
    filter: {
      ...(status && { status: { eq: status } }),
      ...(name && { name: { startsWith: name } }),
    },
    orderBy: [{ field: order, direction: order === "NAME" ? "ASC" : "DESC" }],
  };
}

function Search({ onView }: { onView: (view: View) => void }) {
  return (
    <search>
      <form
        className="search"
        onSubmit={(event) => {
          event.preventDefault();
          const form = new FormData(event.currentTarget);
          const value = (name: string) => String(form.get(name) ?? "");
          onView(toView(value("status") as ProjectStatus | "", value("name"), value("order") as ProjectOrderField));
        }}
      >
        <label>
          Name starts with <input name="name" />
        </label>
        <label>
          Status{" "}
          <select name="status">
            <option value="">Any</option>
            <StatusOptions withArchived />
          </select>
        </label>
        <label>
          Order{" "}
          <select name="order" defaultValue="CREATED_AT">
            <option value="CREATED_AT">Newest first</option>
            <option value="UPDATED_AT">Last changed first</option>
            <option value="NAME">By name</option>
          </select>
        </label>
        <button type="submit">Apply</button>
      </form>
    </search>
  );
}
