/** The panel with the SQL of the last operation, and the line below the response that summarizes the operation. */

import { useGraphiQLActions, type GraphiQLPlugin } from "@graphiql/react";
import { useState } from "react";

import { offersTrace } from "./server";
import { useStore } from "./store";
import { formatCount, formatMilliseconds, formatSql, runs, type Run, type Statement } from "./trace";

function CopyButton({ text, name }: { text: string; name: string }) {
  const [result, setResult] = useState("");
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      setResult("copied");
    } catch {
      setResult("the browser does not allow it");
    }
  }
  return (
    <>
      <button type="button" className="small" onClick={() => void copy()} aria-label={`Copy ${name}`}>
        Copy
      </button>
      <span role="status" className="quiet">
        {result}
      </span>
    </>
  );
}

function StatementItem({ statement: { sql, ms, rows }, number }: { statement: Statement; number: number }) {
  const facts = [
    ms === undefined ? undefined : formatMilliseconds(ms),
    rows === undefined ? undefined : formatCount(rows, "row"),
  ].filter((fact) => fact !== undefined);
  return (
    <li>
      <div className="facts">
        <strong>{number}</strong>
        {facts.length > 0 && <span className="cost">{facts.join(" · ")}</span>}
        <CopyButton key={sql} text={sql} name={`statement ${number}`} />
      </div>
      <pre tabIndex={0} aria-label={`Statement ${number}`}>
        <code>{formatSql(sql)}</code>
      </pre>
    </li>
  );
}

function Statements({ run, statements }: { run: Run; statements: Statement[] }) {
  const hasTimes = statements.every(({ ms }) => ms !== undefined);
  const statementTime = statements.reduce((sum, { ms }) => sum + (ms ?? 0), 0);
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
        {hasTimes && statements.length > 0 && (
          <>
            <div>
              <dt>Statement time</dt>
              <dd>{formatMilliseconds(statementTime)}</dd>
            </div>
            <div>
              <dt>Rows</dt>
              <dd>{rows}</dd>
            </div>
          </>
        )}
        <div>
          <dt>Total time</dt>
          <dd>{formatMilliseconds(run.elapsedMs)}</dd>
        </div>
      </dl>
      {statements.length === 0 && <p>The operation ran no statements.</p>}
      <ol className="statements">
        {statements.map((statement, index) => (
          <StatementItem key={index} statement={statement} number={index + 1} />
        ))}
      </ol>
    </>
  );
}

function SqlPanel() {
  const { last } = useStore(runs);
  return (
    <section aria-label="SQL" className="panel sql">
      <h2>SQL of the last operation</h2>
      {!offersTrace && (
        <p>
          This server does not report the SQL of operations. <code>palisade dev</code> does.
        </p>
      )}
      {offersTrace && !last && <p>Run an operation to see its statements.</p>}
      {last && (
        <p className="quiet">
          {last.operationType} <strong>{last.name}</strong>, as {last.viewer}
          {last.dryRun && ", rolled back (dry run)"}
        </p>
      )}
      {offersTrace && last && !last.statements && <p>The response contains no statements: the request was rejected before the operation ran.</p>}
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

export const SQL_PANEL: GraphiQLPlugin = { title: "SQL", icon: Icon, content: SqlPanel };

/** The result of the last operation in one line. */
export function LastRun() {
  const { last } = useStore(runs);
  const { setVisiblePlugin } = useGraphiQLActions();
  return (
    <div className="last-run">
      <p role="status">
        {last && (
          <>
            <span className={last.hasErrors || last.hasUserErrors ? "bad" : "good"}>
              {last.hasErrors ? "Errors" : last.hasUserErrors ? "User errors" : "Done"}
            </span>
            {` · HTTP ${last.status} · ${formatMilliseconds(last.elapsedMs)}`}
            {last.roundTrips !== undefined && ` · ${formatCount(last.roundTrips, "round trip")}`}
            {last.statements && ` · ${formatCount(last.statements.length, "statement")}`}
            {last.dryRun && " · dry run: nothing was written"}
            {last.replayed && " · replayed (idempotency key)"}
          </>
        )}
      </p>
      {last?.statements && (
        <button type="button" className="small" onClick={() => setVisiblePlugin(SQL_PANEL)}>
          Show SQL
        </button>
      )}
    </div>
  );
}
