import { cacheExchange, Client, fetchExchange } from "@urql/core";
import { Kind } from "graphql";

import { bearer, codesOf, type Connect } from "./client";

// By default, urql sends short queries by GET and everything else by POST, so this client tests both.
export const connect: Connect = (url, token) => {
  const client = new Client({
    url,
    exchanges: [cacheExchange, fetchExchange],
    fetchOptions: { headers: bearer(token) },
  });
  return {
    async execute(document, variables, headers) {
      const [operation] = document.definitions;
      const isMutation = operation?.kind === Kind.OPERATION_DEFINITION && operation.operation === "mutation";
      // The options of a request replace the options of the client, so they repeat the token.
      const context = headers && { fetchOptions: { headers: { ...bearer(token), ...headers } } };
      const { data, error } = isMutation
        ? await client.mutation(document, variables, context)
        : await client.query(document, variables, { ...context, requestPolicy: "network-only" });
      if (error?.networkError) throw error.networkError;
      return { data, codes: codesOf(error?.graphQLErrors) };
    },
  };
};
