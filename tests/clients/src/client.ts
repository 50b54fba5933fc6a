import type { TypedDocumentNode } from "@graphql-typed-document-node/core";

/** The result of an operation: the data, and the code of each error. Each library stores the errors differently. */
export type Result<T> = { data: T | null | undefined; codes: unknown[] };

/** A GraphQL library as the scenario uses it. */
export interface Client {
  execute<T, V extends Record<string, unknown>>(
    document: TypedDocumentNode<T, V>,
    variables: V,
    headers?: Record<string, string>,
  ): Promise<Result<T>>;
}

/** Creates a client that sends a token, or none. */
export type Connect = (url: string, token?: string) => Client;

export const bearer = (token?: string): Record<string, string> =>
  token === undefined ? {} : { authorization: `Bearer ${token}` };

/** Returns each `errors[].extensions.code`. */
export function codesOf(errors: unknown): unknown[] {
  if (!Array.isArray(errors)) return [];
  return errors.map((error: { extensions?: { code?: unknown } }) => error.extensions?.code);
}
