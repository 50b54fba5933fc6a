//! `/graphql`: reads a request, runs its operations and writes the response.
//!
//! The invariant: **an unauthenticated request costs at most one signature check.** The checks run in this
//! order: `Accept`, origin, token, headers, body, document, budget, slot.

use std::{sync::Arc, time::Duration};

use async_graphql::{Response as GraphqlResponse, Value as GraphqlValue, Variables};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use uuid::Uuid;

use super::{
    REQUEST_ID, Service,
    budgets::{BudgetStatus, Charge},
    concurrency::Slot,
    explorer,
    negotiate::ResponseFormat,
    persisted::QuerySource,
    request::{
        GraphqlRequest, RequestBody, parse_body, parse_query_string, read_options, receive_body,
        require_json,
    },
    response::{HttpReply, OperationResult, Rejection, is_not_executed, respond},
};
use crate::{
    api::{
        AdmittedOperation, OperationReply, OperationRequest, RequestOptions, rate_limit::RateLimit,
    },
    auth::Principal,
    db::Operation,
    error::{Code, Error},
    graphql::errors,
};

/// The pause between two attempts to cancel the statement of an operation.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);
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
    if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
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
    let principal = authenticate(service, request.headers()).await?;
    let options = read_options(service, request.headers())?;
    let is_get = request.method() != Method::POST;
    let body = if is_get {
        RequestBody::One(parse_query_string(
            request.uri().query().unwrap_or_default(),
        )?)
    } else {
        require_json(request.headers())?;
        let body = receive_body(service, request.into_body()).await?;
        parse_body(&body, service.max_batch)?
    };
    let (requests, is_batch) = match body {
        RequestBody::One(request) => (vec![request], false),
        RequestBody::Batch(_) if options.idempotency_key.is_some() => {
            return Err(Rejection::bad_request(
                "Idempotency-Key must not be sent with a batch",
            ));
        }
        RequestBody::Batch(requests) => (requests, true),
    };
    let context = OperationContext {
        service,
        principal,
        options,
        request_id,
        is_get,
    };
    let mut operations = Vec::with_capacity(requests.len());
    // In sequence: a batch uses no more of the database at a time than a single operation.
    for request in requests {
        operations.push(context.run(request).await);
    }
    Ok(HttpReply {
        operations,
        is_batch,
        budget: service.budgets.status(principal.tenant),
    })
}

/// The data that the operations of one request share.
struct OperationContext<'r> {
    service: &'r Service,
    principal: Principal,
    options: RequestOptions,
    request_id: Uuid,
    is_get: bool,
}

impl OperationContext<'_> {
    /// Runs one operation if the guard admits it and the tenant has the budget and a slot for it.
    async fn run(&self, request: GraphqlRequest) -> OperationResult {
        let (service, tenant) = (self.service, self.principal.tenant);
        let operation = Operation::new(self.request_id);
        let admitted = self.admit(request, Arc::clone(&operation))?;
        let charge = service
            .budgets
            .try_charge(tenant, admitted.cost())
            .map_err(budget_exceeded)?;
        let slot = service
            .limiter
            .try_acquire(tenant, service.slot_timeout)
            .await
            .ok_or_else(Rejection::busy)?;
        let rate_limit = service.budgets.status(tenant).map(|status| {
            let BudgetStatus {
                limit,
                remaining,
                full_in,
            } = status;
            RateLimit::new(limit, remaining, charge.rows(), full_in)
        });
        let admitted = admitted.with_rate_limit(rate_limit);
        Ok(execute(service, admitted, operation, slot, charge).await)
    }

    /// Finds the document of a request and checks it with the guard.
    fn admit(
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
        let (query, unknown) = documents
            .resolve(self.principal.tenant, source)?
            .ok_or_else(|| {
                Rejection::bad_request(
                    "the request has no `query`, `documentId` or `persistedQuery`",
                )
            })?;
        let request = OperationRequest {
            query,
            operation_name: request.operation_name,
            variables: Variables::from_json(request.variables.unwrap_or_default().into()),
        };
        let options = self.options.clone();
        let admitted = self
            .service
            .api
            .admit(request, self.principal, operation, options)?;
        if let Some(unknown) = unknown {
            documents.learn(self.principal.tenant, unknown);
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
}

fn budget_exceeded(wait: Duration) -> Rejection {
    let seconds = wait.as_secs() + 1;
    let message = format!("the tenant's budget is used up: try again in {seconds} s");
    Rejection::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimited, message).retry_after(wait)
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

/// Executes an operation in a task of its own, so that a client that closes the connection does not stop it in the
/// middle of a statement. If the client closes the connection, or if the operation takes too long, the service cancels
/// the statement of the operation in the database.
async fn execute(
    service: &Service,
    admitted: AdmittedOperation,
    operation: Arc<Operation>,
    slot: Slot,
    charge: Charge,
) -> OperationReply {
    let request_id = operation.request_id();
    let api = service.api.clone();
    let mut task = tokio::spawn(async move {
        let reply = api.execute(admitted).await;
        // The task owns the slot and the charge: a cancelled operation keeps its slot until it ends, and
        // pays for the rows that it fetched.
        let fetched = actual_cost(&reply.response).unwrap_or(charge.rows());
        charge.settle(fetched);
        drop(slot);
        reply
    });
    let cancel_on_drop = CancelOnDrop {
        service: service.clone(),
        operation,
        task: task.abort_handle(),
    };

    let mut response = match tokio::time::timeout(service.operation_timeout, &mut task).await {
        Ok(Ok(reply)) => return reply,
        Ok(Err(panic)) => errors::error_response(Error::Internal(
            format!("an operation panicked: {panic}").into(),
        )),
        Err(_) => errors::error_response(Error::Timeout),
    };
    drop(cancel_on_drop);
    errors::finish(&mut response, request_id, true);
    response.into()
}

/// The number of rows that an operation fetched; `None` if it was aborted, so that the number is unknown.
fn actual_cost(response: &GraphqlResponse) -> Option<u64> {
    if is_not_executed(response) {
        return Some(0);
    }
    match response.extensions.get("cost")? {
        GraphqlValue::Object(cost) => match cost.get("actual")? {
            GraphqlValue::Number(actual) => actual.as_u64(),
            _ => None,
        },
        _ => None,
    }
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
        self.operation.cancel();
        let (service, operation) = (self.service.clone(), Arc::clone(&self.operation));
        let task = self.task.clone();
        tokio::spawn(async move {
            // Repeated until the task ends: a cancellation has no effect on a statement that has not yet reached the
            // server.
            while !task.is_finished() {
                if let Err(error) = service.db.cancel(&operation).await {
                    // The statement timeout of the database role ends the operation.
                    tracing::warn!("cannot cancel an operation: {}", error.detail());
                    return;
                }
                tokio::time::sleep(CANCEL_INTERVAL).await;
            }
        });
    }
}
