import { useId, useRef, useState } from "react";
import { type CombinedError, useMutation, useQuery } from "urql";

import { Field, noRefusals, Problems, refusals } from "./fields";
import { graphql } from "./gql";
import type { CreateProjectInput } from "./gql/graphql";
import { Problem } from "./Problem";

const Organizations = graphql(`
  query Organizations {
    organizations(first: 100, orderBy: [{ field: NAME }]) {
      nodes {
        id
        name
      }
    }
  }
`);

const NewProject = graphql(`
  mutation NewProject($input: CreateProjectInput!) {
    createProject(input: $input) {
      project {
        id
      }
      userErrors {
        ...Refusal
      }
    }
  }
`);

export function CreateProject({ onDone }: { onDone: () => void }) {
  const [{ data: organizations, error: unlisted }] = useQuery({ query: Organizations });
  const [name, setName] = useState("");
  const [organizationId, setOrganizationId] = useState("");
  const [refused, setRefused] = useState(noRefusals);
  const [problem, setProblem] = useState<CombinedError>();
  const [{ fetching }, create] = useMutation(NewProject);
  const { keyFor, forget } = useIdempotencyKey();
  const id = useId();

  async function submit() {
    const input: CreateProjectInput = { name, organizationId };
    const key = keyFor(input);
    const { data, error } = await create({ input }, { fetchOptions: { headers: { "idempotency-key": key } } });
    setProblem(error);
    if (!data) return;
    forget();
    const { userErrors } = data.createProject;
    setRefused(refusals(userErrors, ["name", "organizationId"]));
    if (userErrors.length === 0) onDone();
  }

  return (
    <form
      aria-label="New project"
      className="card"
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
    >
      <Problems messages={refused.other} />
      {(problem ?? unlisted) && <Problem error={(problem ?? unlisted)!} />}
      <Field id={`${id}-name`} label="Name" problems={refused.of("name")}>
        {(attributes) => (
          <input {...attributes} value={name} onChange={(event) => setName(event.target.value)} />
        )}
      </Field>
      <Field id={`${id}-organization`} label="Organization" problems={refused.of("organizationId")}>
        {(attributes) => (
          <select
            {...attributes}
            required
            value={organizationId}
            onChange={(event) => setOrganizationId(event.target.value)}
          >
            <option value="">Choose…</option>
            {organizations?.organizations.nodes.map((organization) => (
              <option key={organization.id} value={organization.id}>
                {organization.name}
              </option>
            ))}
          </select>
        )}
      </Field>
      <div className="buttons">
        <button type="submit" disabled={fetching}>
          {problem ? "Try again" : "Create"}
        </button>
        <button type="button" onClick={onDone}>
          Cancel
        </button>
      </div>
    </form>
  );
}

/**
 * A key for each thing to be done, not for each attempt: whoever hears nothing and sends the same again
 * sends the same key, and the service does it once. Another input is another thing, and so is the same
 * after an answer: the service would only repeat that, and what it refused then it may allow now.
 */
function useIdempotencyKey() {
  const nothing = { input: "", key: "" };
  const last = useRef(nothing);
  return {
    keyFor(input: unknown): string {
      const text = JSON.stringify(input);
      if (last.current.input !== text) last.current = { input: text, key: crypto.randomUUID() };
      return last.current.key;
    },
    forget() {
      last.current = nothing;
    },
  };
}
