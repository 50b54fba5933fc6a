import { useState } from "react";
import { type Client, Provider } from "urql";

import { createClient, type Session } from "./session";
import { SignIn } from "./SignIn";
import { Workspace } from "./Workspace";

/** Two tenants side by side. The panes share this code, but no data. */
export function App() {
  return (
    <>
      <header>
        <h1>Palisade</h1>
      </header>
      <main>
        <Pane name="Left" />
        <Pane name="Right" />
      </main>
    </>
  );
}

/** One half of the page. It has a client while a user is signed in, and a new client for each session. */
function Pane({ name }: { name: string }) {
  const [client, setClient] = useState<Client>();
  const [notice, setNotice] = useState("");

  function signIn(session: Session) {
    const newClient = createClient(session, () => {
      // A late response to an earlier session must not end the current session.
      setClient((current) => (current === newClient ? undefined : current));
      setNotice("The token is invalid or has expired. Sign in again.");
    });
    setNotice("");
    setClient(newClient);
  }

  return (
    <section aria-label={name} className="pane">
      {client ? (
        <Provider value={client}>
          <Workspace onSignOut={() => setClient(undefined)} />
        </Provider>
      ) : (
        <SignIn notice={notice} onSignIn={signIn} />
      )}
    </section>
  );
}
