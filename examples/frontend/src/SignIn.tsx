import { useEffect, useId, useState } from "react";

import { type DevTenant, devTenants, devToken } from "./dev";
import type { Session } from "./session";

/** A demo user by one click where the service offers that, and a pasted token everywhere. */
export function SignIn({ notice, onSignIn }: { notice: string; onSignIn: (session: Session) => void }) {
  const [tenants, setTenants] = useState<DevTenant[]>([]);
  const [problem, setProblem] = useState("");
  const id = useId();

  useEffect(() => {
    let gone = false;
    devTenants().then(
      (found) => gone || setTenants(found),
      () => gone || setProblem("The service does not answer."),
    );
    return () => {
      gone = true;
    };
  }, []);

  return (
    <div className="card">
      <h2>Sign in</h2>
      {notice && <p role="status">{notice}</p>}
      {problem && (
        <p role="alert" className="problem">
          {problem}
        </p>
      )}
      {tenants.map((tenant) => (
        <div key={tenant.slug} role="group" aria-label={tenant.name}>
          <h3>{tenant.name}</h3>
          <ul className="people">
            {tenant.people.filter((user) => user.status === "ACTIVE").map((user) => (
              <li key={user.email}>
                <button
                  onClick={() =>
                    devToken(tenant.slug, user.email).then(
                      (token) => onSignIn({ token }),
                      (error: unknown) => setProblem(String(error)),
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
