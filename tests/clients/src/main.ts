import * as apollo from "./apollo";
import type { Connect } from "./client";
import * as plainFetch from "./fetch";
import * as graphqlRequest from "./graphql-request";
import * as relay from "./relay";
import { scenario } from "./scenario";
import * as urql from "./urql";

type ClientModule = { connect: Connect; testOwnFeatures?: (url: string, token: string) => Promise<void> };

const clients: Record<string, ClientModule> = {
  "@apollo/client": apollo,
  "@urql/core": urql,
  "graphql-request": graphqlRequest,
  "relay-runtime": relay,
  "@graphql-codegen/client-preset": plainFetch,
};

const { PALISADE_GRAPHQL_URL: url, PALISADE_TOKEN_A: tokenA, PALISADE_TOKEN_B: tokenB } = process.env;
if (!url || !tokenA || !tokenB) throw new Error("start the clients with tests/clients/run");
const name = process.argv[2] ?? "";
const client = clients[name];
if (!client) throw new Error(`unknown client: ${name}`);
await scenario(client.connect, name, { url, tokens: [tokenA, tokenB] });
await client.testOwnFeatures?.(url, tokenA);
