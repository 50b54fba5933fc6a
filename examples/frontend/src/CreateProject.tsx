import { useId, useRef, useState } from "react";
import { type CombinedError, useMutation, useQuery } from "urql";

import { ErrorMessages, Field, formErrors, noFormErrors } from "./form";
import { graphql } from "./gql";
import type { CreateProjectInput } from "./gql/graphql";
import { RequestError } from "./RequestError";

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
        ...FormError
      }
    }
  }
`);

export function CreateProject({ onDone }: { onDone: () => void }) {
  const [{ data: organizations, error: organizationsError }] = useQuery({ query: Organizations });
  const [name, setName] = useState("");
  const [organizationId, setOrganizationId] = useState("");
  const [errors, setErrors] = useState(noFormErrors);
  const [createError, setCreateError] = useState<CombinedError>();
  const [{ fetching }, create] = useMutation(NewProject);
  const { keyFor, clearKey } = useIdempotencyKey();
  const requestError = createError ?? organizationsError;
  const id = useId();

  async function submit() {
    const input: CreateProjectInput = { name, organizationId };
    const key = keyFor(input);
    const { data, error } = await create({ input }, { fetchOptions: { headers: { "idempotency-key": key } } });
    setCreateError(error);
    if (!data) return;
    clearKey();
    const { userErrors } = data.createProject;
    setErrors(formErrors(userErrors, ["name", "organizationId"]));
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
      <ErrorMessages messages={errors.other} />
      {requestError && <RequestError error={requestError} />}
      <Field id={`${id}-name`} label="Name" errors={errors.forField("name")}>
        {(attributes) => (
          <input {...attributes} value={name} onChange={(event) => setName(event.target.value)} />
        )}
      </Field>
      <Field id={`${id}-organization`} label="Organization" errors={errors.forField("organizationId")}>
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
          {createError ? "Try again" : "Create"}
        </button>
        <button type="button" onClick={onDone}>
          Cancel
        </button>
      </div>
    </form>
  );
}

/**
 * Provides the idempotency key. A repeated request sends the same key, so the service runs the mutation only once.
 * Another input gets a new key. After a response, the same input gets a new key, too: with the old key, the service
 * would return the old result again, even if it would accept the input now.
 */
function useIdempotencyKey() {
  const none = { input: "", key: "" };
  const last = useRef(none);
  return {
    keyFor(input: unknown): string {
      const json = JSON.stringify(input);
      if (last.current.input !== json) last.current = { input: json, key: crypto.randomUUID() };
      return last.current.key;
    },
    clearKey() {
      last.current = none;
    },
  };
}
