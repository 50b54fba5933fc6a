import { useEffect, useId, useState } from "react";

import { type DevTenant, createDevToken, fetchDevTenants } from "./dev";
import type { Session } from "./session";

/** Signs in with a token, or, if the service is `palisade dev`, by a click on a demo user. */
export function SignIn({ notice, onSignIn }: { notice: string; onSignIn: (session: Session) => void }) {
  const [tenants, setTenants] = useState<DevTenant[]>([]);
  const [error, setError] = useState("");
  const id = useId();

  useEffect(() => {
    let isUnmounted = false;
    fetchDevTenants().then(
      (found) => isUnmounted || setTenants(found),
      () => isUnmounted || setError("Cannot reach the service."),
    );
    return () => {
      isUnmounted = true;
    };
  }, []);

  return (
    <div className="card">
      <h2>Sign in</h2>
      {notice && <p role="status">{notice}</p>}
      {error && (
        <p role="alert" className="error">
          {error}
        </p>
      )}
      {tenants.map((tenant) => (
        <div key={tenant.slug} role="group" aria-label={tenant.name}>
          <h3>{tenant.name}</h3>
          <ul className="users">
            {tenant.people.filter((user) => user.status === "ACTIVE").map((user) => (
              <li key={user.email}>
                <button
                  onClick={() =>
                    createDevToken(tenant.slug, user.email).then(
                      (token) => onSignIn({ token }),
                      (reason: unknown) => setError(String(reason)),
                    )
                  }
                >
                  {user.email} <small>{user.role}</small>
                </button>
              </li>
            ))}
          </ul>
        </div>
      ))}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const token = new FormData(event.currentTarget).get("token");
          if (token) onSignIn({ token: String(token).trim() });
        }}
      >
        <label htmlFor={`${id}-token`}>Token</label>
        <input id={`${id}-token`} name="token" type="password" autoComplete="off" spellCheck={false} />
        <button type="submit">Sign in</button>
      </form>
    </div>
  );
}
