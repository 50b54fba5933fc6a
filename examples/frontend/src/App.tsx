import { useState } from "react";
import { type Client, Provider } from "urql";

import { clientFor, type Session } from "./session";
import { SignIn } from "./SignIn";
import { Workspace } from "./Workspace";

/** Two tenants side by side. The panes share this code and nothing else. */
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

/** One session at a time: no client without one, a new one for each. */
function Pane({ name }: { name: string }) {
  const [client, setClient] = useState<Client>();
  const [notice, setNotice] = useState("");

  function signIn(session: Session) {
    const made = clientFor(session, () => {
      // A late answer to an earlier session must not end this one.
      setClient((present) => (present === made ? undefined : present));
      setNotice("This token is not valid, or no longer. Sign in again.");
    });
    setNotice("");
    setClient(made);
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
