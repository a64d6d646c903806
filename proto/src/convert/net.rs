//! Addresses, prefixes, services, subjects and targets. IPv4-mapped bytes become IPv4 here.

use super::{ConvertError, required};
use crate::v1;
use ipnet::IpNet;
use netguard_core::{
    decision::Target,
    net::{Prefix, Protocol, canonical},
    subject::{Service, Subject},
};
use std::net::IpAddr;

/// An address in 4 or 16 bytes; an IPv4-mapped one becomes IPv4.
///
/// Errors: [`ConvertError::Bytes`] for any other length.
pub fn address(field: &'static str, bytes: &[u8]) -> Result<IpAddr, ConvertError> {
    raw_address(field, bytes).map(canonical)
}

fn raw_address(field: &'static str, bytes: &[u8]) -> Result<IpAddr, ConvertError> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(octets));
    }
    let octets = <[u8; 16]>::try_from(bytes);
    octets.map(IpAddr::from).map_err(|_| ConvertError::Bytes { field, len: bytes.len(), takes: "4 or 16" })
}

/// The wire form of an address.
#[must_use]
pub fn address_bytes(address: IpAddr) -> Vec<u8> {
    match canonical(address) {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

impl TryFrom<v1::Prefix> for Prefix {
    type Error = ConvertError;

    fn try_from(wire: v1::Prefix) -> Result<Self, ConvertError> {
        let address = raw_address("prefix.address", &wire.address)?;
        let length = ConvertError::OutOfRange {
            field: "prefix.length",
            value: u64::from(wire.length),
            takes: "0 to 32 for IPv4, 0 to 128 for IPv6",
        };
        let Ok(len) = u8::try_from(wire.length) else { return Err(length) };
        let net = IpNet::new(address, len).map_err(|_| length)?;
        Self::try_from(net).map_err(|error| ConvertError::Prefix { field: "prefix", error })
    }
}

impl From<Prefix> for v1::Prefix {
    fn from(prefix: Prefix) -> Self {
        Self { address: address_bytes(prefix.address()), length: u32::from(prefix.prefix_len()) }
    }
}

impl TryFrom<v1::Service> for Service {
    type Error = ConvertError;

    fn try_from(wire: v1::Service) -> Result<Self, ConvertError> {
        Ok(Self {
            address: address("service.address", &wire.address)?,
            protocol: Protocol(u8::try_from(wire.protocol).map_err(|_| ConvertError::OutOfRange {
                field: "service.protocol",
                value: u64::from(wire.protocol),
                takes: "0 to 255",
            })?),
            port: port("service.port", wire.port)?,
        })
    }
}

impl From<Service> for v1::Service {
    fn from(service: Service) -> Self {
        Self {
            address: address_bytes(service.address),
            protocol: u32::from(service.protocol.0),
            port: u32::from(service.port),
        }
    }
}

pub(super) fn port(field: &'static str, value: u32) -> Result<u16, ConvertError> {
    u16::try_from(value).map_err(|_| ConvertError::OutOfRange {
        field,
        value: u64::from(value),
        takes: "0 to 65535",
    })
}

impl TryFrom<v1::Subject> for Subject {
    type Error = ConvertError;

    fn try_from(wire: v1::Subject) -> Result<Self, ConvertError> {
        Ok(match required("subject", wire.of)? {
            v1::subject::Of::Source(bytes) => Self::Source(address("subject.source", &bytes)?),
            v1::subject::Of::Service(service) => Self::Service(service.try_into()?),
        })
    }
}

impl From<Subject> for v1::Subject {
    fn from(subject: Subject) -> Self {
        let of = match subject {
            Subject::Source(address) => v1::subject::Of::Source(address_bytes(address)),
            Subject::Service(service) => v1::subject::Of::Service(service.into()),
        };
        Self { of: Some(of) }
    }
}

impl TryFrom<v1::Target> for Target {
    type Error = ConvertError;

    fn try_from(wire: v1::Target) -> Result<Self, ConvertError> {
        Ok(match required("target", wire.of)? {
            v1::target::Of::Source(prefix) => Self::Source(prefix.try_into()?),
            v1::target::Of::Service(service) => Self::Service(service.try_into()?),
        })
    }
}

impl From<Target> for v1::Target {
    fn from(target: Target) -> Self {
        let of = match target {
            Target::Source(prefix) => v1::target::Of::Source(prefix.into()),
            Target::Service(service) => v1::target::Of::Service(service.into()),
        };
        Self { of: Some(of) }
    }
}
