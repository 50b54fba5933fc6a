import { useId, useState } from "react";
import { type CombinedError, useMutation } from "urql";

import { ErrorMessages, Field, formErrors, noFormErrors } from "./form";
import { type FragmentType, graphql, unmask } from "./gql";
import type { ProjectDraftFragment, ProjectStatus } from "./gql/graphql";
import { RequestError } from "./RequestError";
import { StatusOptions } from "./StatusOptions";

const ProjectDraft = graphql(`
  fragment ProjectDraft on Project {
    id
    version
    name
    description
    status
  }
`);

const UpdateProject = graphql(`
  mutation UpdateProject($input: UpdateProjectInput!) {
    updateProject(input: $input) {
      project {
        ...ProjectDraft
      }
      userErrors {
        code
        ...FormError
      }
    }
  }
`);

/** The form that edits a project. It saves only if the project has not changed since the user saw it. */
export function EditProject(props: { project: FragmentType<typeof ProjectDraft>; onDone: () => void }) {
  // The project as it was when the form opened. The list may be refetched while the form is open.
  const [draft, setDraft] = useState(unmask(ProjectDraft, props.project));
  const [theirs, setTheirs] = useState<ProjectDraftFragment>();
  const [errors, setErrors] = useState(noFormErrors);
  const [requestError, setRequestError] = useState<CombinedError>();
  const [{ fetching }, update] = useMutation(UpdateProject);
  const id = useId();

  async function save(ifVersion: number) {
    const { id, name, description, status } = draft;
    const input = {
      id,
      ifVersion,
      name,
      description: description || null,
      // Only `unarchiveProject` changes the status of an archived project. A field that is left out does not change.
      ...(status !== "ARCHIVED" && { status }),
    };
    const { data, error } = await update({ input });
    setRequestError(error);
    if (!data) return;
    const { project, userErrors } = data.updateProject;
    const current = unmask(ProjectDraft, project);
    const isConflict = userErrors.some(({ code }) => code === "CONFLICT");
    setTheirs(isConflict && current ? current : undefined);
    setErrors(isConflict ? noFormErrors : formErrors(userErrors, ["name", "description", "status"]));
    if (userErrors.length === 0) props.onDone();
  }

  return (
    <form
      aria-label="Edit project"
      onSubmit={(event) => {
        event.preventDefault();
        void save(draft.version);
      }}
    >
      <ErrorMessages messages={errors.other} />
      {requestError && <RequestError error={requestError} />}
      <Field id={`${id}-name`} label="Name" errors={errors.forField("name")}>
        {(attributes) => (
          <input
            {...attributes}
            value={draft.name}
            onChange={(event) => setDraft({ ...draft, name: event.target.value })}
          />
        )}
      </Field>
      <Field id={`${id}-description`} label="Description" errors={errors.forField("description")}>
        {(attributes) => (
          <textarea
            {...attributes}
            value={draft.description ?? ""}
            onChange={(event) => setDraft({ ...draft, description: event.target.value })}
          />
        )}
      </Field>
      <Field id={`${id}-status`} label="Status" errors={errors.forField("status")}>
        {(attributes) => (
          <select
            {...attributes}
            value={draft.status}
            disabled={draft.status === "ARCHIVED"}
            onChange={(event) => setDraft({ ...draft, status: event.target.value as ProjectStatus })}
          >
            <StatusOptions withArchived={draft.status === "ARCHIVED"} />
          </select>
        )}
      </Field>
      {theirs ? (
        <Conflict
          mine={draft}
          theirs={theirs}
          onUseTheirs={() => {
            setDraft(theirs);
            setTheirs(undefined);
          }}
          onOverwrite={() => void save(theirs.version)}
        />
      ) : (
        <div className="buttons">
          <button type="submit" disabled={fetching}>
            Save
          </button>
          <button type="button" onClick={props.onDone}>
            Cancel
          </button>
        </div>
      )}
    </form>
  );
}

/** Shows both versions after a conflict and lets the user choose one. */
function Conflict(props: {
  mine: ProjectDraftFragment;
  theirs: ProjectDraftFragment;
  onUseTheirs: () => void;
  onOverwrite: () => void;
}) {
  const rows = [
    ["Name", props.mine.name, props.theirs.name],
    ["Description", props.mine.description, props.theirs.description],
    ["Status", props.mine.status, props.theirs.status],
  ] as const;
  return (
    <div role="alert" className="conflict">
      <p>This project was changed after you opened it. Your changes are not saved yet.</p>
      <table>
        <thead>
          <tr>
            <td />
            <th scope="col">Yours</th>
            <th scope="col">Theirs</th>
          </tr>
        </thead>
        <tbody>
          {rows.map(([label, mine, theirs]) => (
            <tr key={label} className={mine === theirs ? undefined : "differs"}>
              <th scope="row">{label}</th>
              <td>{mine}</td>
              <td>{theirs}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <div className="buttons">
        <button type="button" onClick={props.onUseTheirs}>
          Use theirs
        </button>
        <button type="button" onClick={props.onOverwrite}>
          Overwrite with yours
        </button>
      </div>
    </div>
  );
}
