//! Envoy's external authorization by gRPC.

use super::{
    Answer,
    forward::{Desk, told},
};
use netguard_proto::{
    convert::Check,
    envoy::{
        CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption, HttpStatus,
        OkHttpResponse, RpcStatus, authorization_server::Authorization, check_response::HttpResponse,
    },
};
use std::net::{IpAddr, Ipv4Addr};
use tonic::{Code, Request, Response, Status};

/// Where Envoy asks.
pub(super) const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Who asks, among a request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker(pub(super) IpAddr);

#[tonic::async_trait]
impl Authorization for Desk {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let asker = request.extensions().get::<Asker>().copied();
        // Whoever is no proxy of ours has no business asking about others.
        if !asker.is_some_and(|Asker(peer)| self.config.trusts(peer)) {
            return Err(Status::permission_denied("only who is in gate.trusted_proxies may ask here"));
        }
        let check = Check::try_from(request.into_inner())?;
        // Somebody on Envoy's own host.
        let source = check.source.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        // Envoy says itself who asks it: where no header names anybody behind a proxy of ours, that is the client.
        let named = check.header(self.config.header.as_str());
        let answer = self.decide(source, named, Some(source));
        Ok(Response::new(respond(&answer)))
    }
}

fn respond(answer: &Answer) -> CheckResponse {
    if answer.passes() {
        let status = Some(RpcStatus { code: Code::Ok.into(), message: String::new() });
        return CheckResponse { status, http_response: Some(HttpResponse::OkResponse(OkHttpResponse {})) };
    }
    let code = if matches!(answer, Answer::Throttled { .. }) {
        Code::ResourceExhausted
    } else {
        Code::PermissionDenied
    };
    let header = |(name, value): (http::HeaderName, String)| HeaderValueOption {
        header: Some(HeaderValue { key: name.as_str().to_owned(), value, raw_value: Vec::new() }),
    };
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: answer.status().into() }),
        headers: told(answer).into_iter().map(header).collect(),
        body: answer.line(),
    };
    CheckResponse {
        status: Some(RpcStatus { code: code.into(), message: answer.name().to_owned() }),
        http_response: Some(HttpResponse::DeniedResponse(denied)),
    }
}
