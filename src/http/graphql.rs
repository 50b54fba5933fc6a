//! `/graphql`: reads a request, runs its operations and writes the response.
//!
//! The invariants: **an unauthenticated request costs at most one signature check for each secret**, and **the service
//! does no work for a request before the tenant has paid for it and has a slot for it.** The order is: `Accept`, origin,
//! token, connections of the tenant, requests per second, headers, body, charge for the body, slot, document, charge for
//! the rows, execution. Work that can take more than a millisecond does not run on the threads that serve connections.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{
    REQUEST_ID, Service,
    budgets::{BudgetStatus, Charge},
    concurrency::Slot,
    connections::ConnectionHandle,
    explorer, heavy,
    negotiate::ResponseFormat,
    persisted::QuerySource,
    request::{GraphqlRequest, ReceivedRequest, RequestBody, read_options, require_json},
    response::{
        ExecutedOperation, HttpReply, MAX_SHORT_RESPONSE_BYTES, OperationResult, Rejection, respond,
    },
};
use crate::{
    api::{
        AdmittedOperation, DocumentKey, OperationRequest, RequestOptions, rate_limit::RateLimit,
    },
    auth::Principal,
    db::Operation,
    error::{Code, Error},
    graphql::errors,
    metrics,
    usage::{Usage, tenant_bytes::HeldBytes},
};

/// How long the rejection of a token is delayed, so that a client that ignores it costs almost nothing.
const UNAUTHENTICATED_PAUSE: Duration = Duration::from_millis(100);
/// The longest request whose parsing takes less than a millisecond, in bytes.
const MAX_LIGHT_REQUEST_BYTES: usize = 16 * 1024;
/// The longest document whose parsing and validation take about a millisecond, in bytes: up to 0.36 ms for each KiB.
const MAX_LIGHT_DOCUMENT_BYTES: usize = 3 * 1024;
/// The largest cost of a mutation with this property: its response may be a tree of values.
const MAX_LIGHT_MUTATION_COST: u64 = 50;
/// The largest number of values whose response is built in less than about a millisecond at a time.
const MAX_LIGHT_VALUES: u64 = 10_000;
/// The largest cost of an operation whose response is built in less than about a millisecond at a time.
const MAX_LIGHT_COST: u64 = 1_000;
/// The methods of `/graphql`.
const ALLOWED_METHODS: &str = "GET, POST";

/// Responds to every method except GET and POST.
pub async fn method_not_allowed(method: Method) -> Response {
    let message = format!("{method} is not allowed: use POST, or GET for queries\n");
    let allow = [(header::ALLOW, ALLOWED_METHODS)];
    (StatusCode::METHOD_NOT_ALLOWED, allow, message).into_response()
}

/// Handles one request.
pub async fn handle(State(service): State<Service>, request: Request<Body>) -> Response {
    if let Some(redirect) = explorer::redirect_browser(&service, &request) {
        return redirect;
    }
    let request_id = request_id(request.headers());
    let format = ResponseFormat::accepted_by(request.headers());
    let reply = match format {
        Some(_) => run_request(&service, request, request_id).await,
        None => Err(Rejection::new(
            StatusCode::NOT_ACCEPTABLE,
            Code::BadUserInput,
            "the header Accept must allow application/graphql-response+json or application/json",
        )),
    };
    let reply = reply.unwrap_or_else(HttpReply::from);
    let mut response = respond(reply, request_id, format.unwrap_or(ResponseFormat::Json));
    let mut buffer = Uuid::encode_buffer();
    let id = request_id.hyphenated().encode_lower(&mut buffer);
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The id of a request: the client's if it is a UUID, otherwise a new one.
fn request_id(headers: &HeaderMap) -> Uuid {
    headers
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .and_then(|id| Uuid::try_parse(id).ok())
        .unwrap_or_else(Uuid::now_v7)
}

async fn run_request(
    service: &Service,
    request: Request<Body>,
    request_id: Uuid,
) -> Result<HttpReply, Rejection> {
    if service.origins.rejects(request.headers()) {
        let message = "pages of this origin may not call this API";
        return Err(Rejection::new(
            StatusCode::FORBIDDEN,
            Code::CsrfBlocked,
            message,
        ));
    }
    if service.db.isolation_error().is_some() {
        return Err(Rejection::busy());
    }
    let principal = match authenticate(service, request.headers()).await {
        Ok(principal) => principal,
        Err(error) => {
            if matches!(error, Error::Unauthenticated) {
                tokio::time::sleep(UNAUTHENTICATED_PAUSE).await;
            }
            return Err(error.into());
        }
    };
    let tenant = principal.tenant;
    let reply = run_operations(service, principal, request, request_id).await;
    Ok(HttpReply {
        budget: service.budgets.status(tenant),
        ..reply.unwrap_or_else(HttpReply::from)
    })
}

/// Runs the operations of an authenticated request.
async fn run_operations(
    service: &Service,
    principal: Principal,
    request: Request<Body>,
    request_id: Uuid,
) -> Result<HttpReply, Rejection> {
    let tenant = principal.tenant;
    if let Some(connection) = request.extensions().get::<ConnectionHandle>()
        && connection.assign_to_tenant(principal.tenant).is_err()
    {
        return Err(Rejection::too_many_connections());
    }
    if !service.budgets.admit(tenant).await {
        return Err(too_many_requests());
    }
    let options = read_options(service, request.headers())?;
    let is_get = request.method() != Method::POST;
    let usage = Arc::new(Usage::default());
    let received = if is_get {
        ReceivedRequest::query_string(request.uri())
    } else {
        require_json(request.headers())?;
        ReceivedRequest::body(service, principal, request).await?
    };
    usage.add_request_bytes(received.len() as u64);
    let charge = service
        .budgets
        .try_charge(tenant, Arc::clone(&usage))
        .map_err(budget_exceeded)?;
    let charge = Arc::new(charge);
    // From here on, the service works for the request. The request keeps its slot until the memory for its response is
    // held.
    let slot = service
        .limiter
        .try_acquire(tenant, principal.user, service.slot_timeout)
        .await
        .ok_or_else(Rejection::busy)?;
    let hold = RequestHold {
        usage: Arc::clone(&usage),
        _charge: Arc::clone(&charge),
        _slot: Arc::new(slot),
    };
    let max_batch = service.max_batch;
    let is_long = received.len() > MAX_LIGHT_REQUEST_BYTES;
    let parsed = hold.run(is_long, move || received.parse(max_batch));
    let (requests, is_batch) = match parsed.await? {
        RequestBody::One(request) => (vec![*request], false),
        RequestBody::Batch(_) if options.idempotency_key.is_some() => {
            return Err(Rejection::bad_request(
                "Idempotency-Key must not be sent with a batch",
            ));
        }
        RequestBody::Batch(requests) => (requests, true),
    };
    let context = RequestContext {
        service: service.clone(),
        principal,
        options,
        request_id,
        is_get,
        is_long,
        usage,
        charge,
        hold,
    };
    let mut operations = Vec::with_capacity(requests.len());
    // In sequence: a batch uses no more of the database at a time than a single operation.
    for request in requests {
        let result = context.run(request).await;
        operations.push(context.charge_rejection(result).await);
    }
    context.charge.settle();
    Ok(HttpReply {
        operations,
        is_batch,
        budget: None,
    })
}

/// What a request holds until its work has ended, also if the client disconnects before.
#[derive(Clone)]
struct RequestHold {
    usage: Arc<Usage>,
    _charge: Arc<Charge>,
    _slot: Arc<Slot>,
}

impl RequestHold {
    /// Runs work that does not wait. If it is heavy, it runs on a thread of its own, because it would hold up the
    /// requests of others. Adds its time to the usage.
    async fn run<T: Send + 'static>(
        &self,
        is_heavy: bool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if !is_heavy {
            return self.usage.timed(work);
        }
        let hold = self.clone();
        let work = move || hold.usage.timed_heavy(work);
        match heavy::run(work).await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// Runs a future in a task of its own. If it is heavy, the task has a thread of its own.
fn spawn<T: Send + 'static>(
    is_heavy: bool,
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    if is_heavy {
        heavy::poll(future)
    } else {
        tokio::spawn(future)
    }
}

/// Polls the execution of an operation, and adds the time of each poll to the usage. When the operation has fetched
/// much, its execution moves to a thread for heavy work: the length of its columns is known only when the rows arrive.
async fn execute_metered<T: Send + 'static>(
    usage: Arc<Usage>,
    mut execution: Pin<Box<dyn Future<Output = T> + Send>>,
    is_heavy: bool,
) -> T {
    if is_heavy {
        return poll_fn(|poller| usage.timed_heavy(|| execution.as_mut().poll(poller))).await;
    }
    let light = poll_fn(
        |poller| match usage.timed(|| execution.as_mut().poll(poller)) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if usage.has_fetched_much() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        },
    );
    if let Some(result) = light.await {
        return result;
    }
    let heavy = heavy::poll(async move {
        poll_fn(|poller| usage.timed_heavy(|| execution.as_mut().poll(poller))).await
    });
    match heavy.await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// What the operations of one request share.
struct RequestContext {
    service: Service,
    principal: Principal,
    options: RequestOptions,
    request_id: Uuid,
    is_get: bool,
    /// Whether the body is long, so that its variables may be long too.
    is_long: bool,
    usage: Arc<Usage>,
    charge: Arc<Charge>,
    hold: RequestHold,
}

impl RequestContext {
    /// Runs one operation if the guard admits it and the tenant has the budget for it.
    async fn run(&self, request: GraphqlRequest) -> OperationResult {
        let Self { service, usage, .. } = self;
        let tenant = self.principal.tenant;
        let operation = Operation::bounded(
            self.request_id,
            Arc::clone(usage),
            service.max_fetched_bytes,
            HeldBytes::empty(&service.fetched_bytes, tenant, self.principal.user),
        );
        let admitted = self.admit(request, Arc::clone(&operation)).await?;
        let estimate = admitted.estimate();
        self.charge.reserve(estimate).map_err(budget_exceeded)?;
        usage.add_values(estimate.values);
        usage.add_written_bytes(estimate.written_bytes);
        let rate_limit = service.budgets.status(tenant).map(|status| {
            let BudgetStatus {
                limit,
                remaining,
                full_in,
            } = status;
            RateLimit::new(limit, remaining, self.charge.rows(), full_in)
        });
        let admitted = admitted.with_rate_limit(rate_limit);
        let mut executed = self.execute(admitted, operation).await;
        let bytes = executed.body.len();
        executed.held = self
            .hold_response(bytes, Rejection::responses_not_received)
            .await?;
        Ok(executed)
    }

    /// Charges the tenant for the errors of a rejected operation, and holds memory for them if they are long.
    async fn charge_rejection(&self, result: OperationResult) -> OperationResult {
        let mut rejection = match result {
            Err(rejection) => rejection,
            executed => return executed,
        };
        let bytes = rejection.write_body(self.request_id);
        self.usage.add_response_bytes(bytes as u64);
        rejection.hold(self.hold_response(bytes, Rejection::busy).await?);
        Err(rejection)
    }

    /// Finds the document of a request and checks it with the guard.
    async fn admit(
        &self,
        request: GraphqlRequest,
        operation: Arc<Operation>,
    ) -> Result<AdmittedOperation, Rejection> {
        let source = QuerySource {
            query: request.query,
            id: request.document_id,
            hash: request
                .extensions
                .and_then(|extensions| extensions.persisted_query)
                .and_then(|persisted| persisted.sha256_hash),
        };
        let documents = &self.service.documents;
        let (query, new) = documents
            .resolve(self.principal.tenant, source)?
            .ok_or_else(|| {
                Rejection::bad_request(
                    "the request has no `query`, `documentId` or `persistedQuery`",
                )
            })?;
        let key = DocumentKey {
            text: query,
            operation_name: request.operation_name,
        };
        let (service, principal) = (self.service.clone(), self.principal);
        let is_new = !service.api.is_cached(principal.tenant, &key);
        if is_new {
            self.usage.add_parsed_bytes(key.text.len() as u64);
        }
        let is_heavy = self.is_long
            || key.text.len() > MAX_LIGHT_REQUEST_BYTES
            || (is_new && key.text.len() > MAX_LIGHT_DOCUMENT_BYTES);
        let options = self.options.clone();
        let admitted = self.hold.run(is_heavy, move || {
            let request = OperationRequest {
                key,
                variables: request.variables.unwrap_or_default(),
            };
            service.api.admit(request, principal, operation, options)
        });
        let admitted = admitted.await?;
        if let Some(new) = new {
            documents.store(self.principal.tenant, new);
        }
        if self.is_get && !admitted.is_query() {
            return Err(Rejection::new(
                StatusCode::METHOD_NOT_ALLOWED,
                Code::BadUserInput,
                "GET runs only queries: send mutations with POST",
            ));
        }
        Ok(admitted)
    }

    /// Executes an operation in a task of its own, so that a client that closes the connection does not stop it in the
    /// middle of a statement. If the client closes the connection, or if the operation takes too long, the service
    /// cancels the statement of the operation in the database.
    async fn execute(
        &self,
        admitted: AdmittedOperation,
        operation: Arc<Operation>,
    ) -> ExecutedOperation {
        let service = self.service.clone();
        let usage = Arc::clone(&self.usage);
        // A cancelled operation keeps its slot until it ends, and pays for what it used.
        let hold = self.hold.clone();
        let is_heavy = self.is_long
            || admitted.cost() > MAX_LIGHT_COST
            || admitted.values() > MAX_LIGHT_VALUES
            || (!admitted.is_query() && admitted.cost() > MAX_LIGHT_MUTATION_COST);
        let is_query = admitted.is_query();
        let max_bytes = service.max_response_bytes;
        let (api, request_id) = (service.api.clone(), self.request_id);
        let canary = service.db.canary().clone();
        // Boxed, because the future is large, and it is moved several times before it starts.
        let execution = Box::pin(async move {
            let reply = api.execute(admitted).await;
            let max_bytes = is_query.then_some(max_bytes);
            ExecutedOperation::new(&reply, request_id, max_bytes, &canary)
        });
        let mut task = spawn(is_heavy, async move {
            let executed = execute_metered(Arc::clone(&usage), execution, is_heavy).await;
            usage.add_response_bytes(executed.body.len() as u64);
            drop(hold);
            executed
        });
        let cancel_on_drop = CancelOnDrop {
            service: service.clone(),
            operation,
            task: task.abort_handle(),
        };

        let error = match tokio::time::timeout(service.operation_timeout, &mut task).await {
            Ok(Ok(executed)) => return executed,
            Ok(Err(panic)) => Error::Internal(format!("an operation panicked: {panic}").into()),
            Err(_) => {
                metrics::OPERATION_TIMEOUT.increment();
                Error::Timeout
            }
        };
        drop(cancel_on_drop);
        let mut response = errors::error_response(error);
        errors::finish(&mut response, request_id, true);
        ExecutedOperation::new(&response.into(), request_id, None, service.db.canary())
    }

    /// Holds memory for a long response until the client has received it. If the memory is used up, waits until clients
    /// have received earlier responses; the request keeps its slot meanwhile.
    async fn hold_response(
        &self,
        bytes: usize,
        not_held: fn() -> Rejection,
    ) -> Result<Option<HeldBytes>, Rejection> {
        if bytes <= MAX_SHORT_RESPONSE_BYTES {
            return Ok(None);
        }
        let service = &self.service;
        let memory = &service.response_bytes;
        let Principal { tenant, user, .. } = self.principal;
        let held = memory.hold(tenant, user, bytes as u64, service.slot_timeout);
        let held = held.await.ok_or_else(|| {
            metrics::RESPONSE_BYTES_BUSY.increment();
            not_held()
        })?;
        Ok(Some(held))
    }
}

fn budget_exceeded(wait: Duration) -> Rejection {
    let seconds = wait.as_secs() + 1;
    let message = format!("the tenant's budget is used up: try again in {seconds} s");
    Rejection::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited, message).retry_after(wait)
}

fn too_many_requests() -> Rejection {
    let message = "the tenant sends too many requests per second: try again in 1 s";
    Rejection::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited, message)
        .retry_after(Duration::from_secs(1))
}

/// Authenticates a request by its one `Authorization` header with one bearer token. The error is the same
/// for every cause.
async fn authenticate(service: &Service, headers: &HeaderMap) -> Result<Principal, Error> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Error::Unauthenticated);
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token)
        .ok_or(Error::Unauthenticated)?;
    let identity = service.tokens.verify(token)?;
    service.memberships.principal(identity).await
}

/// Cancels an operation when the handler stops waiting for it.
struct CancelOnDrop {
    service: Service,
    operation: Arc<Operation>,
    task: tokio::task::AbortHandle,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.task.is_finished() {
            return;
        }
        // The task holds the operation until it ends.
        self.service.db.cancel(&self.operation);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{
        http::{budgets::TenantBudgets, concurrency::ConcurrencyLimiter},
        ids::{TenantId, UserId},
        usage::thread_time,
    };

    #[tokio::test]
    async fn heavy_work_runs_on_a_thread_of_its_own_and_its_time_is_counted() {
        let (tenant, user) = (TenantId::generate(), UserId::generate());
        let usage = Arc::new(Usage::default());
        let charge = TenantBudgets::new(0, 0).try_charge(tenant, Arc::clone(&usage));
        let limiter = ConcurrencyLimiter::new(1, 1, 0);
        let slot = limiter.try_acquire(tenant, user, Duration::ZERO).await;
        let hold = RequestHold {
            usage: Arc::clone(&usage),
            _charge: Arc::new(charge.unwrap()),
            _slot: Arc::new(slot.unwrap()),
        };
        let here = thread::current().id();
        let now = || thread::current().id();
        assert_eq!(hold.run(false, now).await, here);
        assert_ne!(hold.run(true, now).await, here);
        assert_eq!(spawn(false, async move { now() }).await.unwrap(), here);
        assert_ne!(spawn(true, async move { now() }).await.unwrap(), here);

        let work = || {
            let end = thread_time() + Duration::from_millis(30);
            while thread_time() < end {}
        };
        // The time counts even if the client disconnects after the work has begun.
        let abandoned = hold.run(true, work);
        drop(tokio::time::timeout(Duration::ZERO, abandoned).await);
        drop(hold);
        while Arc::strong_count(&usage) > 1 {
            tokio::task::yield_now().await;
        }
        assert!(
            usage.price() > 1,
            "the time beyond the first 20 ms is charged"
        );
    }
}
