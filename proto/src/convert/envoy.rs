//! What Envoy asks its external authorizers.

use super::{ConvertError, required};
use crate::envoy;
use netguard_core::net::parse_address;
use std::net::IpAddr;

/// One question: whether a request may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Whom Envoy was asked by; `None`: somebody on Envoy's own host, by a socket file.
    pub source: Option<IpAddr>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Check {
    /// The values of a header of the request, in their order.
    pub fn header(&self, name: &str) -> impl DoubleEndedIterator<Item = &[u8]> {
        let named = move |key: &str| key.eq_ignore_ascii_case(name);
        self.headers.iter().filter(move |(key, _)| named(key)).map(|(_, value)| value.as_slice())
    }
}

impl TryFrom<envoy::CheckRequest> for Check {
    type Error = ConvertError;

    /// Errors: who asks is missing or no address. Envoy always tells.
    fn try_from(wire: envoy::CheckRequest) -> Result<Self, ConvertError> {
        let attributes = required("attributes", wire.attributes)?;
        let peer = required("attributes.source", attributes.source)?;
        let address =
            required("attributes.source.address", peer.address.and_then(|address| address.address))?;
        let source = match address {
            envoy::address::Address::SocketAddress(socket) => {
                let field = "attributes.source.address.socket_address.address";
                Some(parse_address(&socket.address).map_err(|error| ConvertError::Prefix { field, error })?)
            }
            envoy::address::Address::Pipe(_) => None,
        };
        let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
        let joined = http.headers.into_iter().map(|(key, value)| (key, value.into_bytes()));
        let raw = http.header_map.unwrap_or_default().headers.into_iter().map(|header| {
            let text = header.value.into_bytes();
            (header.key, if header.raw_value.is_empty() { text } else { header.raw_value })
        });
        Ok(Self { source, headers: joined.chain(raw).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy::{
        Address, AttributeContext, CheckRequest, HeaderMap, HeaderValue, Pipe, SocketAddress,
        address::Address as Of,
        attribute_context::{HttpRequest, Peer, Request},
    };

    fn asked(of: Option<Of>, http: HttpRequest) -> CheckRequest {
        let source = Some(Peer { address: Some(Address { address: of }) });
        let request = Some(Request { http: Some(http) });
        CheckRequest { attributes: Some(AttributeContext { source, request }) }
    }

    fn from(address: &str) -> Option<Of> {
        Some(Of::SocketAddress(SocketAddress { address: address.into() }))
    }

    #[test]
    fn envoy_tells_who_asks_and_by_which_headers() {
        let mut http = HttpRequest::default();
        http.headers.insert("x-forwarded-for".into(), "203.0.113.7, 10.0.0.1".into());
        let raw = |value: &str| HeaderValue {
            key: "X-Forwarded-For".into(),
            value: String::new(),
            raw_value: value.as_bytes().to_vec(),
        };
        http.header_map = Some(HeaderMap { headers: vec![raw("one"), raw("two")] });
        let check = Check::try_from(asked(from("::ffff:203.0.113.9"), http)).unwrap();
        assert_eq!(check.source, Some("203.0.113.9".parse().unwrap()));
        let values: Vec<_> = check.header("x-forwarded-for").collect();
        assert_eq!(values, [b"203.0.113.7, 10.0.0.1".as_slice(), b"one", b"two"]);
        let local = asked(Some(Of::Pipe(Pipe { path: "/run/envoy.sock".into() })), HttpRequest::default());
        assert_eq!(Check::try_from(local).unwrap().source, None);
    }

    #[test]
    fn a_question_about_nobody_is_refused() {
        let field = |request: CheckRequest| Check::try_from(request).unwrap_err().to_string();
        assert!(field(CheckRequest::default()).starts_with("attributes is missing"));
        assert!(field(asked(None, HttpRequest::default())).starts_with("attributes.source.address"));
        for bad in ["", "localhost", "203.0.113.7:80", "010.0.0.1", "fe80::1%eth0"] {
            assert!(field(asked(from(bad), HttpRequest::default())).contains("socket_address"), "{bad}");
        }
    }
}
