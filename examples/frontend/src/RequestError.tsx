import type { CombinedError } from "urql";

/** Shows why a whole request failed. The request ID leads to the details in the service's log. */
export function RequestError({ error, onRetry }: { error: CombinedError; onRetry?: () => void }) {
  const [firstError] = error.graphQLErrors;
  const requestId = firstError?.extensions.requestId;
  return (
    <p role="alert" className="error">
      {firstError ? firstError.message : "No response from the service. It may have processed the request."}
      {typeof requestId === "string" && <small> Request {requestId}</small>}
      {onRetry && <button onClick={onRetry}>Try again</button>}
    </p>
  );
}
