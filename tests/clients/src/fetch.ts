// A client without a client library: it uses `fetch` and the typed documents of GraphQL Code Generator.
import { print } from "graphql";

import { bearer, codesOf, type Connect } from "./client";

export const connect: Connect = (url, token) => ({
  async execute(document, variables, headers) {
    const response = await fetch(url, {
      method: "POST",
      headers: {
        accept: "application/graphql-response+json",
        "content-type": "application/json",
        ...bearer(token),
        ...headers,
      },
      body: JSON.stringify({ query: print(document), variables }),
    });
    const body = await response.json();
    return { data: body.data, codes: codesOf(body.errors) };
  },
});
