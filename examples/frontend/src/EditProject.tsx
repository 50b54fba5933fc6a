import { useId, useState } from "react";
import { type CombinedError, useMutation } from "urql";

import { Field, noRefusals, Problems, refusals } from "./fields";
import { type FragmentType, graphql, unmask } from "./gql";
import type { ProjectDraftFragment, ProjectStatus } from "./gql/graphql";
import { Problem } from "./Problem";
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
        ...Refusal
      }
    }
  }
`);

/** Edits a project, and only the version of it that the user has seen. */
export function EditProject(props: { project: FragmentType<typeof ProjectDraft>; onDone: () => void }) {
  // Kept from when the form opened: the list may be fetched anew behind it.
  const [draft, setDraft] = useState(unmask(ProjectDraft, props.project));
  const [theirs, setTheirs] = useState<ProjectDraftFragment>();
  const [refused, setRefused] = useState(noRefusals);
  const [problem, setProblem] = useState<CombinedError>();
  const [{ fetching }, update] = useMutation(UpdateProject);
  const id = useId();

  async function save(ifVersion: number) {
    const { id, name, description, status } = draft;
    const input = {
      id,
      ifVersion,
      name,
      description: description || null,
      // An archived project stays so until `unarchiveProject`: what is left out stays as it is.
      ...(status !== "ARCHIVED" && { status }),
    };
    const { data, error } = await update({ input });
    setProblem(error);
    if (!data) return;
    const { project, userErrors } = data.updateProject;
    const present = unmask(ProjectDraft, project);
    const conflict = userErrors.some((one) => one.code === "CONFLICT");
    setTheirs(conflict && present ? present : undefined);
    setRefused(conflict ? noRefusals : refusals(userErrors, ["name", "description", "status"]));
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
      <Problems messages={refused.other} />
      {problem && <Problem error={problem} />}
      <Field id={`${id}-name`} label="Name" problems={refused.of("name")}>
        {(attributes) => (
          <input
            {...attributes}
            value={draft.name}
            onChange={(event) => setDraft({ ...draft, name: event.target.value })}
          />
        )}
      </Field>
      <Field id={`${id}-description`} label="Description" problems={refused.of("description")}>
        {(attributes) => (
          <textarea
            {...attributes}
            value={draft.description ?? ""}
            onChange={(event) => setDraft({ ...draft, description: event.target.value })}
          />
        )}
      </Field>
      <Field id={`${id}-status`} label="Status" problems={refused.of("status")}>
        {(attributes) => (
          <select
            {...attributes}
            value={draft.status}
            disabled={draft.status === "ARCHIVED"}
            onChange={(event) => setDraft({ ...draft, status: event.target.value as ProjectStatus })}
          >
            <StatusOptions archived={draft.status === "ARCHIVED"} />
          </select>
        )}
      </Field>
      {theirs ? (
        <Conflict
          mine={draft}
          theirs={theirs}
          onTake={() => {
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

/** Somebody else was faster: both versions, and which of them shall stand. */
function Conflict(props: {
  mine: ProjectDraftFragment;
  theirs: ProjectDraftFragment;
  onTake: () => void;
  onOverwrite: () => void;
}) {
  const rows = [
    ["Name", props.mine.name, props.theirs.name],
    ["Description", props.mine.description, props.theirs.description],
    ["Status", props.mine.status, props.theirs.status],
  ] as const;
  return (
    <div role="alert" className="conflict">
      <p>Somebody changed this project after you opened it. Nothing of yours is saved yet.</p>
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
        <button type="button" onClick={props.onTake}>
          Take theirs
        </button>
        <button type="button" onClick={props.onOverwrite}>
          Overwrite with yours
        </button>
      </div>
    </div>
  );
}
