import type { ReactNode } from "react";

import { graphql, unmask, type FragmentType } from "./gql";

export const Refusal = graphql(`
  fragment Refusal on UserError {
    code
    field
    message
  }
`);

/** What a mutation's `userErrors` say about each field of a form. */
export type Refusals = { of: (field: string) => string[]; other: string[] };

export const noRefusals: Refusals = { of: () => [], other: [] };

/**
 * `field` is a path in the arguments: `["input", "name"]` belongs to the form's field `name`. What
 * names no field of the form, as a refusal by role does, is said above it: nothing may get lost.
 */
export function refusals(userErrors: readonly FragmentType<typeof Refusal>[], fields: readonly string[]): Refusals {
  const errors = unmask(Refusal, userErrors);
  const fieldOf = (path: readonly string[] | null | undefined) =>
    path && path[0] === "input" && fields.includes(path[1] ?? "") ? path[1] : undefined;
  return {
    of: (field) => errors.filter((error) => fieldOf(error.field) === field).map((error) => error.message),
    other: errors.filter((error) => fieldOf(error.field) === undefined).map((error) => error.message),
  };
}

/** A labelled control with its refusals below it, where a screen reader finds them too. */
export function Field(props: {
  id: string;
  label: string;
  problems: string[];
  children: (attributes: { id: string; "aria-describedby": string; "aria-invalid": boolean }) => ReactNode;
}) {
  const problemsId = `${props.id}-problems`;
  return (
    <div className="field">
      <label htmlFor={props.id}>{props.label}</label>
      {props.children({
        id: props.id,
        "aria-describedby": problemsId,
        "aria-invalid": props.problems.length > 0,
      })}
      <Problems id={problemsId} messages={props.problems} />
    </div>
  );
}

export function Problems({ id, messages }: { id?: string; messages: string[] }) {
  return (
    <div id={id} aria-live="polite">
      {messages.map((message) => (
        <p key={message} className="problem">
          {message}
        </p>
      ))}
    </div>
  );
}
