use super::{
    DecodeError,
    link::{Layer, ethertype},
    read::{be16, be32},
    walk::Walk,
};

/// The lowest label of a stack says that it is (RFC 3032 section 2.1).
const BOTTOM_OF_STACK: u32 = 0x100;

/// What is behind a stack of labels: no field names it, its first four bits tell (RFC 4928 section 3).
pub(super) fn behind_labels<'a>(
    mut rest: &'a [u8],
    walk: &mut Walk,
) -> Result<(Layer, &'a [u8]), DecodeError> {
    loop {
        walk.deeper()?;
        let entry = be32(rest, 0).ok_or(DecodeError::TooShort)?;
        rest = rest.get(4..).ok_or(DecodeError::TooShort)?;
        if entry & BOTTOM_OF_STACK != 0 {
            break;
        }
    }
    match rest.first().map(|byte| byte >> 4) {
        None => Err(DecodeError::TooShort),
        Some(4 | 6) => Ok((Layer::Ip, rest)),
        // A pseudowire's control word (RFC 4385 section 3), then the frame; or a frame to an address that begins so.
        Some(0) => {
            let behind = rest.get(4..).ok_or(DecodeError::TooShort)?;
            let without = is_frame(rest) && !is_frame(behind);
            Ok((Layer::Ethernet, if without { rest } else { behind }))
        }
        // Its channel for maintenance.
        Some(1) => Err(DecodeError::NotIp),
        // A pseudowire without a control word.
        Some(_) => Ok((Layer::Ethernet, rest)),
    }
}

/// Whether an ethertype that we read stands where a frame has it.
fn is_frame(bytes: &[u8]) -> bool {
    matches!(
        be16(bytes, 12),
        Some(ethertype::IPV4 | ethertype::IPV6 | ethertype::ARP | ethertype::VLAN | ethertype::PROVIDER_VLAN)
    )
}
