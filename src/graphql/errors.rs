//! Errors on their way out: codes in, internals out.

use async_graphql::{ErrorExtensionValues, Response, ServerError};
use uuid::Uuid;

use crate::error::{Code, Error};

/// Most errors of one answer: a document can be wrong in thousands of places.
const MAX_ERRORS: usize = 25;

/// An answer that is one error.
#[must_use]
pub fn refused(error: Error) -> Response {
    Response::from_errors(vec![
        async_graphql::Error::new_with_source(error)
            .into_server_error(async_graphql::Pos::default()),
    ])
}

/// Whether the database gave the operation up in favour of another.
#[must_use]
pub fn is_contended(response: &Response) -> bool {
    let mut errors = response.errors.iter();
    errors.any(|error| error.source::<Error>().is_some_and(Error::is_contended))
}

/// Gives every error its code and the request's id, and logs what is ours if it is to be known: that
/// an operation was cancelled because its client went away is not.
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
            // async-graphql's own: about the document, or about an argument's value.
            None if error.path.is_empty() => Code::GraphqlValidationFailed,
            None => Code::BadUserInput,
        };
        // An error of the whole answer points nowhere.
        error.locations.retain(|place| place.line > 0);
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
