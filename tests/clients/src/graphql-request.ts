import { ClientError, GraphQLClient } from "graphql-request";

import { bearer, codesOf, type Connect } from "./client";

export const connect: Connect = (url, token) => {
  const client = new GraphQLClient(url, { headers: bearer(token) });
  return {
    async execute(document, variables, headers) {
      try {
        const data = await client.request({ document, variables, requestHeaders: headers } as never);
        return { data: data as never, codes: [] };
      } catch (error) {
        if (!(error instanceof ClientError)) throw error;
        return { data: null, codes: codesOf(error.response.errors) };
      }
    },
  };
};
