import type { CombinedError } from "urql";

/** A failure of a whole request: the message, and the id under which the service's log has the rest. */
export function Problem({ error, onRetry }: { error: CombinedError; onRetry?: () => void }) {
  const [first] = error.graphQLErrors;
  const requestId = first?.extensions.requestId;
  return (
    <p role="alert" className="problem">
      {first ? first.message : "The service did not answer. Nothing is known about what it did."}
      {typeof requestId === "string" && <small> Request {requestId}</small>}
      {onRetry && <button onClick={onRetry}>Try again</button>}
    </p>
  );
}
