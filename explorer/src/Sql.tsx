/** The panel of the last operation's statements, and the line below the answer that leads to it. */

import { useGraphiQLActions, type GraphiQLPlugin } from "@graphiql/react";
import { useState } from "react";

import { offersTrace } from "./server";
import { useStore } from "./store";
import { count, layOut, milliseconds, runs, type Run, type Statement } from "./trace";

function Copy({ text, what }: { text: string; what: string }) {
  const [said, say] = useState("");
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      say("copied");
    } catch {
      say("the browser forbids it");
    }
  }
  return (
    <>
      <button type="button" className="small" onClick={() => void copy()} aria-label={`Copy ${what}`}>
        Copy
      </button>
      <span role="status" className="quiet">
        {said}
      </span>
    </>
  );
}

function One({ statement: { sql, ms, rows }, place }: { statement: Statement; place: number }) {
  const facts = [
    ms === undefined ? undefined : milliseconds(ms),
    rows === undefined ? undefined : count(rows, "row"),
  ].filter((fact) => fact !== undefined);
  return (
    <li>
      <div className="facts">
        <strong>{place}</strong>
        {facts.length > 0 && <span className="cost">{facts.join(" · ")}</span>}
        <Copy key={sql} text={sql} what={`statement ${place}`} />
      </div>
      <pre tabIndex={0} aria-label={`Statement ${place}`}>
        <code>{layOut(sql)}</code>
      </pre>
    </li>
  );
}

function Statements({ run, statements }: { run: Run; statements: Statement[] }) {
  const timed = statements.every(({ ms }) => ms !== undefined);
  const inDatabase = statements.reduce((sum, { ms }) => sum + (ms ?? 0), 0);
  const rows = statements.reduce((sum, statement) => sum + (statement.rows ?? 0), 0);
  return (
    <>
      <dl className="totals">
        <div>
          <dt>Round trips</dt>
          <dd>{run.roundTrips ?? "?"}</dd>
        </div>
        <div>
          <dt>Statements</dt>
          <dd>{statements.length}</dd>
        </div>
        {timed && statements.length > 0 && (
          <>
            <div>
              <dt>In statements</dt>
              <dd>{milliseconds(inDatabase)}</dd>
            </div>
            <div>
              <dt>Rows</dt>
              <dd>{rows}</dd>
            </div>
          </>
        )}
        <div>
          <dt>Altogether</dt>
          <dd>{milliseconds(run.elapsed)}</dd>
        </div>
      </dl>
      {statements.length === 0 && <p>It needed no statement.</p>}
      <ol className="statements">
        {statements.map((statement, index) => (
          <One key={index} statement={statement} place={index + 1} />
        ))}
      </ol>
    </>
  );
}

function Sql() {
  const { last } = useStore(runs);
  return (
    <section aria-label="SQL" className="panel sql">
      <h2>SQL of the last operation</h2>
      {!offersTrace && (
        <p>
          This server does not tell what an operation cost. <code>palisade dev</code> does.
        </p>
      )}
      {offersTrace && !last && <p>Run an operation, and its statements are here.</p>}
      {last && (
        <p className="quiet">
          {last.kind} <strong>{last.name}</strong>, as {last.viewer}
          {last.dryRun && ", undone at its end (dry run)"}
        </p>
      )}
      {offersTrace && last && !last.statements && <p>Its answer does not tell what it cost: it was refused before it ran.</p>}
      {last?.statements && <Statements run={last} statements={last.statements} />}
    </section>
  );
}

function Icon() {
  return (
    <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.5" aria-hidden="true">
      <ellipse cx="12" cy="5.5" rx="7.5" ry="3" />
      <path d="M4.5 5.5v13c0 1.7 3.4 3 7.5 3s7.5-1.3 7.5-3v-13M4.5 12c0 1.7 3.4 3 7.5 3s7.5-1.3 7.5-3" />
    </svg>
  );
}

export const SQL: GraphiQLPlugin = { title: "SQL", icon: Icon, content: Sql };

/** What the last operation came to, in one line. */
export function LastRun() {
  const { last } = useStore(runs);
  const { setVisiblePlugin } = useGraphiQLActions();
  return (
    <div className="last-run">
      <p role="status">
        {last && (
          <>
            <span className={last.failed || last.refused ? "bad" : "good"}>
              {last.failed ? "Errors" : last.refused ? "Refused" : "Done"}
            </span>
            {` · HTTP ${last.status} · ${milliseconds(last.elapsed)}`}
            {last.roundTrips !== undefined && ` · ${count(last.roundTrips, "round trip")}`}
            {last.statements && ` · ${count(last.statements.length, "statement")}`}
            {last.dryRun && " · dry run: nothing was written"}
            {last.replayed && " · answered before (idempotency key)"}
          </>
        )}
      </p>
      {last?.statements && (
        <button type="button" className="small" onClick={() => setVisiblePlugin(SQL)}>
          Show SQL
        </button>
      )}
    </div>
  );
}
