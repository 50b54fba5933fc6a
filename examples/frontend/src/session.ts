import { cacheExchange, Client, fetchExchange, mapExchange } from "urql";

/** Who asks: a token, which names one user of one tenant. Lives in memory only. */
export type Session = { token: string };

/**
 * The client of one session. Its cache knows nothing of tenants, and need not: another session is
 * another client, and a session that ends takes its client and every cached row with it.
 */
export function clientFor(session: Session, onExpired: () => void): Client {
  return new Client({
    url: "/graphql",
    // By default urql sends short queries by GET, with the variables in the address, which logs keep.
    preferGetMethod: false,
    exchanges: [
      cacheExchange,
      mapExchange({
        onError(error) {
          const codes = error.graphQLErrors.map((one) => one.extensions.code);
          if (codes.includes("UNAUTHENTICATED")) onExpired();
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
