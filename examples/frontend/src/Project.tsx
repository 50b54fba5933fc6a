import { createContext, useContext, useState } from "react";

import { EditProject } from "./EditProject";
import { type FragmentType, graphql, unmask } from "./gql";
import type { Permission } from "./gql/graphql";

/** The permissions of the user. The app hides buttons that would fail; the service checks every request anyway. */
export const Permissions = createContext<readonly Permission[]>([]);

const ProjectCard = graphql(`
  fragment ProjectCard on Project {
    name
    status
    description
    owner {
      id
      email
      displayName
    }
    invoices(first: 3) {
      nodes {
        id
        number
        status
        total {
          amount
          currencyCode
        }
      }
    }
    auditLogs(first: 3) @include(if: $history) {
      nodes {
        id
        action
        occurredAt
        actor {
          __typename
          ... on User {
            id
            email
          }
          ... on SystemActor {
            name
          }
        }
      }
    }
    ...ProjectDraft
  }
`);

/** A project with its latest invoices and changes. */
export function Project(props: { project: FragmentType<typeof ProjectCard> }) {
  const project = unmask(ProjectCard, props.project);
  const permissions = useContext(Permissions);
  const [editing, setEditing] = useState(false);
  const invoices = project.invoices.nodes;
  const changes = project.auditLogs?.nodes ?? [];
  return (
    <li className="card">
      <header>
        <h3>{project.name}</h3>
        <span className="status">{project.status}</span>
        {permissions.includes("EDIT_RECORDS") && !editing && (
          <button onClick={() => setEditing(true)} aria-label={`Edit ${project.name}`}>
            Edit
          </button>
        )}
      </header>
      {editing ? (
        <EditProject project={project} onDone={() => setEditing(false)} />
      ) : (
        project.description && <p>{project.description}</p>
      )}
      <p className="quiet">Owner: {project.owner?.displayName ?? project.owner?.email ?? "not visible to you"}</p>
      <details>
        <summary>Invoices and history</summary>
        <h4>Latest invoices</h4>
        {invoices.length === 0 && <p className="quiet">None.</p>}
        {invoices.length > 0 && (
          <table>
            <thead>
              <tr>
                <th scope="col">Number</th>
                <th scope="col">Status</th>
                <th scope="col">Total</th>
              </tr>
            </thead>
            <tbody>
              {invoices.map((invoice) => (
                <tr key={invoice.id}>
                  {/* A draft has no number yet. */}
                  <td>{invoice.number ?? "–"}</td>
                  <td>{invoice.status}</td>
                  {/* The amount is a string, because a number could lose digits. */}
                  <td>
                    {invoice.total.amount} {invoice.total.currencyCode}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
        <h4>History</h4>
        {!permissions.includes("READ_AUDIT_LOG") && (
          <p className="quiet">Only owners and admins can read the history.</p>
        )}
        <ol className="history">
          {changes.map((change) => (
            <li key={change.id}>
              <time dateTime={change.occurredAt}>{new Date(change.occurredAt).toLocaleString()}</time>{" "}
              {change.action} by {actorName(change.actor)}
            </li>
          ))}
        </ol>
      </details>
    </li>
  );
}

type Actor = { __typename: "User"; email: string } | { __typename: "SystemActor"; name: string };

function actorName(actor: Actor | null | undefined): string {
  if (!actor) return "a deleted user";
  return actor.__typename === "User" ? actor.email : actor.name;
}
