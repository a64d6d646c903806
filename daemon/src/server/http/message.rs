//! What is taken of requests, and what answers are made of.

use super::{Body, BoxError};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, TRANSFER_ENCODING},
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::time::Duration;

/// Until a whole body is there.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What no handler should have to think of.
pub(super) fn screen(request: &Request<Incoming>) -> Result<(), (StatusCode, &'static str)> {
    let bad = |why| Err((StatusCode::BAD_REQUEST, why));
    // In HTTP/2 the authority stands beside the path, and frames tell where a body ends.
    let http2 = request.version() == Version::HTTP_2;
    if (request.uri().authority().is_some() && !http2) || !request.uri().path().starts_with('/') {
        return bad("write the request's target as a path");
    }
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return bad("one Host header is needed");
    }
    let length = single(request.headers(), &CONTENT_LENGTH).map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    let has_body = length.is_some_and(|length| length.as_bytes() != b"0");
    if matches!(*request.method(), Method::GET | Method::HEAD)
        && (has_body || request.headers().contains_key(TRANSFER_ENCODING))
    {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "a GET carries no body"));
    }
    Ok(())
}

/// The one value of a header, if it is there.
///
/// Errors: it is there twice. Two values are read differently by two programs, so none counts.
pub fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, &'static str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err("a header stands there twice"),
    }
}

/// A whole body of at most `limit` bytes.
///
/// Errors: the answer to give.
pub async fn read_body(request: Request<Incoming>, limit: usize) -> Result<Bytes, Response<Body>> {
    let refuse = |status, why| closing(text(status, why));
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
        return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"));
    }
    let body = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"))
        }
        Ok(Err(_)) => Err(refuse(StatusCode::BAD_REQUEST, "the body is broken")),
        Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}

/// A body that comes bit by bit.
pub fn body<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    body.map_err(Into::into).boxed_unsync()
}

/// A line of text.
#[must_use]
pub fn text(status: StatusCode, line: &str) -> Response<Body> {
    of_type(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

/// A whole answer of a media type.
#[must_use]
pub fn of_type(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(self::body(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// The answer is the connection's last: what follows on it is not read.
#[must_use]
pub fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
