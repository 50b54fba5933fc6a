//! `/graphql`: one request, one operation, or a few if batches are allowed.
//!
//! In this order: where it comes from, who asks, what kind of body, how long it is, what it asks for,
//! whether the tenant may ask for so much now. A stranger costs one signature check and nothing else.

use std::{sync::Arc, time::Duration};

use async_graphql::{Response as Answer, Value as GraphqlValue, Variables};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use uuid::Uuid;

use super::{
    REQUEST_ID, Service, explorer, harden,
    negotiate::Format,
    persisted::Named,
    request::{Received, RequestBody, from_address, manner, parse, receive, require_json},
    response::{Answered, Refused, Replied, is_not_executed, respond},
    traffic::{Place, Standing, Taken},
};
use crate::{
    api::{
        AdmittedOperation, OperationReply, OperationRequest, RequestOptions, rate_limit::RateLimit,
    },
    auth::Principal,
    db::Operation,
    error::Error,
    graphql::errors,
};

/// How long a cancelled statement gets to end before it is looked for again.
const BETWEEN_CANCELLATIONS: Duration = Duration::from_millis(100);
/// What may be sent here.
const METHODS: &str = "GET, POST";

/// Everything but GET and POST.
pub async fn other_method(method: Method) -> Response {
    let message =
        format!("{method} is not supported here: send operations by POST, queries also by GET\n");
    let mut response = (StatusCode::METHOD_NOT_ALLOWED, message).into_response();
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(METHODS));
    harden(&mut response);
    response
}

/// Answers one request.
pub async fn answer(State(service): State<Service>, request: Request<Body>) -> Response {
    if let Some(led) = explorer::for_browsers(&service, &request) {
        return led;
    }
    let request_id = request_id(request.headers());
    let format = Format::accepted(request.headers());
    let replied = match format {
        Some(_) => operate(&service, request, request_id).await,
        None => Err(Refused::new(
            StatusCode::NOT_ACCEPTABLE,
            "BAD_USER_INPUT",
            "answers are application/graphql-response+json or application/json: accept one of them",
        )),
    };
    let replied = replied.unwrap_or_else(|refused| Replied {
        answers: vec![Err(refused)],
        is_batch: false,
        standing: None,
    });
    let mut response = respond(replied, request_id, format.unwrap_or(Format::Json));
    harden(&mut response);
    if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The client's own request id if it is a UUID, so that it can be followed through; else a new one.
fn request_id(headers: &HeaderMap) -> Uuid {
    headers
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .and_then(|id| Uuid::try_parse(id).ok())
        .unwrap_or_else(Uuid::now_v7)
}

async fn operate(
    service: &Service,
    request: Request<Body>,
    request_id: Uuid,
) -> Result<Replied, Refused> {
    if service.0.origins.refuse(request.headers()) {
        let message = "pages of this origin may not call this API";
        return Err(Refused::new(StatusCode::FORBIDDEN, "CSRF_BLOCKED", message));
    }
    let principal = authenticate(service, request.headers()).await?;
    let manner = manner(service, request.headers())?;
    let by_get = request.method() != Method::POST;
    let received = if by_get {
        Received::One(from_address(request.uri().query().unwrap_or_default())?)
    } else {
        require_json(request.headers())?;
        let body = receive(service, request.into_body()).await?;
        parse(&body, service.0.max_batch)?
    };
    let (bodies, is_batch) = match received {
        Received::One(body) => (vec![body], false),
        Received::Batch(_) if manner.idempotency_key.is_some() => {
            return Err(Refused::bad(
                "Idempotency-Key is for one operation, not for a batch",
            ));
        }
        Received::Batch(bodies) => (bodies, true),
    };
    let asked = Asked {
        service,
        principal,
        manner,
        request_id,
        by_get,
    };
    let mut answers = Vec::with_capacity(bodies.len());
    // One after the other: a batch has no more of the database than a single operation.
    for body in bodies {
        answers.push(asked.answer(body).await);
    }
    let standing = service.0.budgets.standing(principal.tenant);
    Ok(Replied {
        answers,
        is_batch,
        standing,
    })
}

/// Who asks, and how.
struct Asked<'r> {
    service: &'r Service,
    principal: Principal,
    manner: RequestOptions,
    request_id: Uuid,
    by_get: bool,
}

impl Asked<'_> {
    async fn answer(&self, body: RequestBody) -> Answered {
        let (service, tenant) = (self.service, self.principal.tenant);
        let named = Named {
            query: body.query,
            id: body.document_id,
            hash: body
                .extensions
                .and_then(|extensions| extensions.persisted_query)
                .and_then(|persisted| persisted.sha256_hash),
        };
        let query = service.0.documents.resolve(tenant, named)?;
        let query =
            query.ok_or_else(|| Refused::bad("there is no `query`, and nothing that names one"))?;
        let incoming = OperationRequest {
            query,
            operation_name: body.operation_name,
            variables: Variables::from_json(body.variables.unwrap_or_default().into()),
        };
        let operation = Operation::new(self.request_id);
        let admitted = service.0.api.admit(
            incoming,
            self.principal,
            Arc::clone(&operation),
            self.manner.clone(),
        )?;
        if self.by_get && !admitted.is_query() {
            let message = "by GET only queries are answered: send mutations by POST";
            return Err(Refused::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "BAD_USER_INPUT",
                message,
            ));
        }

        let cost = admitted.cost();
        let taken = service.0.budgets.take(tenant, cost).map_err(|wait| {
            let seconds = wait.as_secs() + 1;
            let message = format!("the tenant has asked for too much: try again in {seconds} s");
            Refused::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message).after(wait)
        })?;
        let place = service.0.places.take(tenant, service.0.place_timeout).await;
        let place = place.ok_or_else(Refused::busy)?;
        let standing = service.0.budgets.standing(tenant);
        let admitted = admitted.with_rate_limit(standing.map(|standing| {
            let Standing {
                limit,
                remaining,
                full_in,
            } = standing;
            RateLimit::new(limit, remaining, taken.rows(), full_in)
        }));
        Ok(run(service, admitted, operation, place, taken).await)
    }
}

/// The rows that an operation fetched; `None` if it was cut short and nobody knows.
fn actual_cost(answer: &Answer) -> Option<u64> {
    if is_not_executed(answer) {
        return Some(0);
    }
    match answer.extensions.get("cost")? {
        GraphqlValue::Object(cost) => match cost.get("actual")? {
            GraphqlValue::Number(actual) => actual.as_u64(),
            _ => None,
        },
        _ => None,
    }
}

/// One bearer token in one header. Every cause of failure looks the same.
async fn authenticate(service: &Service, headers: &HeaderMap) -> Result<Principal, Error> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(header), None) = (given.next(), given.next()) else {
        return Err(Error::Unauthenticated);
    };
    let token = header
        .to_str()
        .ok()
        .and_then(|header| header.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token)
        .ok_or(Error::Unauthenticated)?;
    let identity = service.0.tokens.verify(token)?;
    service.0.memberships.enter(identity).await
}

/// Runs the operation in a task of its own, so that a client that goes away cannot cut a statement
/// in two. If it does, or takes too long, the operation is ended where it works: in the database.
async fn run(
    service: &Service,
    admitted: AdmittedOperation,
    operation: Arc<Operation>,
    place: Place,
    taken: Taken,
) -> OperationReply {
    let request_id = operation.request_id();
    let api = service.0.api.clone();
    let mut running = tokio::spawn(async move {
        let answer = api.execute(admitted).await;
        // The task's own, so that an operation that nobody waits for keeps its place until it ends, and
        // pays what it fetched.
        let fetched = actual_cost(&answer.response).unwrap_or(taken.rows());
        taken.settle(fetched);
        drop(place);
        answer
    });
    let abandoned = CancelOnDrop {
        service: service.clone(),
        operation,
        running: running.abort_handle(),
    };

    let limit = service.0.operation_timeout;
    let mut answer = match tokio::time::timeout(limit, &mut running).await {
        Ok(Ok(answer)) => return answer,
        Ok(Err(panicked)) => errors::error_response(Error::Internal(
            format!("an operation panicked: {panicked}").into(),
        )),
        Err(_) => errors::error_response(Error::Timeout),
    };
    drop(abandoned);
    errors::finish(&mut answer, request_id, true);
    answer.into()
}

/// Ends an operation that nobody waits for any more.
struct CancelOnDrop {
    service: Service,
    operation: Arc<Operation>,
    running: tokio::task::AbortHandle,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.running.is_finished() {
            return;
        }
        self.operation.cancel();
        let (service, operation) = (self.service.clone(), Arc::clone(&self.operation));
        let running = self.running.clone();
        tokio::spawn(async move {
            // Again until it has ended: a statement may have been on its way to the server when the
            // first cancellation looked for it.
            while !running.is_finished() {
                if let Err(error) = service.0.db.cancel(&operation).await {
                    // It ends by the statement timeout of its role instead.
                    tracing::warn!("cannot cancel an operation: {}", error.detail());
                    return;
                }
                tokio::time::sleep(BETWEEN_CANCELLATIONS).await;
            }
        });
    }
}
