import type { TypedDocumentNode } from "@graphql-typed-document-node/core";

/** What a library told of an answer: the data, and the code of each error, wherever it keeps them. */
export type Answer<T> = { data: T | null | undefined; codes: unknown[] };

/** A GraphQL library as the scenario uses it. */
export interface Client {
  ask<T, V extends Record<string, unknown>>(
    document: TypedDocumentNode<T, V>,
    variables: V,
    headers?: Record<string, string>,
  ): Promise<Answer<T>>;
}

/** Makes a client for a token, or for nobody. */
export type Connect = (url: string, token?: string) => Client;

export const bearer = (token?: string): Record<string, string> =>
  token === undefined ? {} : { authorization: `Bearer ${token}` };

/** The codes in `errors[].extensions.code`. */
export function codesOf(errors: unknown): unknown[] {
  if (!Array.isArray(errors)) return [];
  return errors.map((error: { extensions?: { code?: unknown } }) => error.extensions?.code);
}
