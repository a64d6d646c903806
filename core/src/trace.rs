//! The W3C trace context that travels from packet to kernel rule.

use serde::{Deserialize, Serialize};

/// A `traceparent` (<https://www.w3.org/TR/trace-context/>), version 00, or empty when there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceParent(String);

impl TraceParent {
    /// Takes a well-formed version-00 `traceparent`; anything else becomes the empty one, as the specification asks.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split('-');
        let lower_hex = |part: &str, len: usize| {
            part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let good = matches!(
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()),
            (Some("00"), Some(trace), Some(span), Some(flags), None)
                if lower_hex(trace, 32) && lower_hex(span, 16) && lower_hex(flags, 2)
                    && trace.bytes().any(|b| b != b'0') && span.bytes().any(|b| b != b'0')
        );
        if good { Self(text.to_owned()) } else { Self::default() }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The 32 hex digits of the trace id, as Jaeger shows it; empty when there is no trace.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.0.get(3..35).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::TraceParent;

    #[test]
    fn only_a_well_formed_context_survives() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceParent::parse(good).trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        for bad in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-0-0-0",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            &good.to_uppercase(),
            &format!("{good}-x"),
        ] {
            assert!(TraceParent::parse(bad).is_empty(), "{bad}");
        }
    }
}
