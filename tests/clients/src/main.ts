import * as apollo from "./apollo";
import type { Connect } from "./client";
import * as fetching from "./fetch";
import * as request from "./graphql-request";
import * as relay from "./relay";
import { scenario } from "./scenario";
import * as urql from "./urql";

type Player = { connect: Connect; own?: (url: string, token: string) => Promise<void> };

const players: Record<string, Player> = {
  "@apollo/client": apollo,
  "@urql/core": urql,
  "graphql-request": request,
  "relay-runtime": relay,
  "@graphql-codegen/client-preset": fetching,
};

const { PALISADE_GRAPHQL_URL: url, PALISADE_TOKEN_A: a, PALISADE_TOKEN_B: b } = process.env;
if (!url || !a || !b) throw new Error("run tests/clients/run");
const name = process.argv[2] ?? "";
const player = players[name];
if (!player) throw new Error(`no client ${name}`);
await scenario(player.connect, name, { url, tokens: [a, b] });
await player.own?.(url, a);
