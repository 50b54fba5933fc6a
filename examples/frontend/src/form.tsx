import type { ReactNode } from "react";

import { graphql, unmask, type FragmentType } from "./gql";

export const FormError = graphql(`
  fragment FormError on UserError {
    code
    field
    message
  }
`);

/** The messages of a mutation's `userErrors`, by the form field to which they belong. */
export type FormErrors = { forField: (field: string) => string[]; other: string[] };

export const noFormErrors: FormErrors = { forField: () => [], other: [] };

/**
 * Assigns user errors to the fields of a form. `field` is a path in the arguments: `["input", "name"]` belongs to the
 * form's field `name`. Errors without a field of the form, such as a missing permission, are shown above the form.
 */
export function formErrors(userErrors: readonly FragmentType<typeof FormError>[], fields: readonly string[]): FormErrors {
  const errors = unmask(FormError, userErrors);
  const fieldOf = (path: readonly string[] | null | undefined) =>
    path && path[0] === "input" && fields.includes(path[1] ?? "") ? path[1] : undefined;
  return {
    forField: (field) => errors.filter((error) => fieldOf(error.field) === field).map((error) => error.message),
    other: errors.filter((error) => fieldOf(error.field) === undefined).map((error) => error.message),
  };
}

/** A control with its label and its error messages. The attributes announce the messages to screen readers. */
export function Field(props: {
  id: string;
  label: string;
  errors: string[];
  children: (attributes: { id: string; "aria-describedby": string; "aria-invalid": boolean }) => ReactNode;
}) {
  const errorsId = `${props.id}-errors`;
  return (
    <div className="field">
      <label htmlFor={props.id}>{props.label}</label>
      {props.children({
        id: props.id,
        "aria-describedby": errorsId,
        "aria-invalid": props.errors.length > 0,
      })}
      <ErrorMessages id={errorsId} messages={props.errors} />
    </div>
  );
}

export function ErrorMessages({ id, messages }: { id?: string; messages: string[] }) {
  return (
    <div id={id} aria-live="polite">
      {messages.map((message) => (
        <p key={message} className="error">
          {message}
        </p>
      ))}
    </div>
  );
}
