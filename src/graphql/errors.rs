//! Prepares the errors of a response: adds codes, and hides internal details from the client.

use async_graphql::{ErrorExtensionValues, Response, ServerError};
use uuid::Uuid;

use crate::error::{Code, Error};

/// The maximum number of errors in a response. A document can cause thousands of errors.
pub const MAX_ERRORS: usize = 25;

/// A response that consists of one error.
#[must_use]
pub fn error_response(error: Error) -> Response {
    Response::from_errors(vec![
        async_graphql::Error::new_with_source(error)
            .into_server_error(async_graphql::Pos::default()),
    ])
}

/// Whether the database aborted the operation because of a conflict with another one.
#[must_use]
pub fn is_contended(response: &Response) -> bool {
    let mut errors = response.errors.iter();
    errors.any(|error| error.source::<Error>().is_some_and(Error::is_contended))
}

/// Whether a query failed for a reason that may be gone at once: see [`Error::is_transient`].
#[must_use]
pub fn is_transient(response: &Response) -> bool {
    let mut errors = response.errors.iter();
    errors.any(|error| error.source::<Error>().is_some_and(Error::is_transient))
}

/// Adds the code and the request id to every error. If `log` is true, logs the errors that the service or its database
/// caused. The caller passes false if the operation was cancelled because the client disconnected.
pub fn finish(response: &mut Response, request_id: Uuid, log: bool) {
    response.errors.truncate(MAX_ERRORS);
    for error in &mut response.errors {
        let code = match error.source::<Error>() {
            Some(ours) => {
                if log && ours.is_service_failure() {
                    tracing::error!(
                        request.id = %request_id,
                        error.code = ours.code().as_str(),
                        "request {request_id} failed: {}", ours.detail(),
                    );
                }
                ours.code()
            }
            // An error of async-graphql: about the document, or about the value of an argument.
            None if error.path.is_empty() => Code::GraphqlValidationFailed,
            None => Code::BadUserInput,
        };
        // An error about the whole response does not have a location.
        error.locations.retain(|location| location.line > 0);
        set_codes(error, code, request_id);
    }
}

fn set_codes(error: &mut ServerError, code: Code, request_id: Uuid) {
    let extensions = error
        .extensions
        .get_or_insert_with(ErrorExtensionValues::default);
    extensions.set("code", code.as_str());
    extensions.set("requestId", request_id.to_string());
}
