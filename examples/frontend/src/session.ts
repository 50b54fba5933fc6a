import { cacheExchange, Client, fetchExchange, mapExchange } from "urql";

/** A token, which identifies one user of one tenant. It is kept only in memory. */
export type Session = { token: string };

/**
 * Creates the client of one session. The cache does not distinguish tenants, so each session needs its own client:
 * when the session ends, the client is dropped together with its cached rows.
 */
export function createClient(session: Session, onUnauthenticated: () => void): Client {
  return new Client({
    url: "/graphql",
    // By default, urql sends short queries by GET, with the variables in the URL. URLs end up in logs.
    preferGetMethod: false,
    exchanges: [
      cacheExchange,
      mapExchange({
        onError(error) {
          const codes = error.graphQLErrors.map(({ extensions }) => extensions.code);
          if (codes.includes("UNAUTHENTICATED")) onUnauthenticated();
        },
      }),
      fetchExchange,
    ],
    fetch(input, init) {
      const headers = new Headers(init?.headers);
      headers.set("authorization", `Bearer ${session.token}`);
      return fetch(input, { ...init, headers });
    },
  });
}
