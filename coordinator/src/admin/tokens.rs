use super::{Admin, text, write::Writer};
use netguard_core::{
    identity::Role,
    ledger::{Command, Outcome, TokenId, TokenState},
};
use netguard_daemon::identity::JoinToken;
use netguard_proto::v1::{CreateTokenRequest, CreateTokenResponse, RevokeTokenRequest, WriteResponse};
use tonic::Status;

/// Life of a token when none is asked for: time enough to install a host, too short to be found in a shell history.
const DEFAULT_TTL_SECONDS: u64 = 3600;

impl Admin {
    /// The secret leaves the cluster here, once; the ledger keeps its hash alone.
    pub(super) async fn make_token(
        &self,
        writer: Writer,
        request: CreateTokenRequest,
    ) -> Result<CreateTokenResponse, Status> {
        let role: Role = request.role.parse().map_err(|_| {
            Status::invalid_argument(format!(
                "`{}` cannot join with a token: sensor, responder or coordinator can",
                text::echo(&request.role)
            ))
        })?;
        let token = JoinToken::generate(self.shared.agents_ca_pin)
            .ok_or_else(|| Status::internal("the system gave no random numbers"))?;
        let command = Command::TokenCreate {
            id: TokenId(token.id),
            secret_sha256: token.secret_hash(),
            role,
            name: Some(request.name).filter(|name| !name.is_empty()),
            ttl_seconds: if request.ttl_seconds == 0 { DEFAULT_TTL_SECONDS } else { request.ttl_seconds },
        };
        match writer.commit(command).await?.1 {
            Outcome::Token { id, expires_at } => Ok(CreateTokenResponse {
                token: token.to_string(),
                id: id.to_string(),
                expires_at: expires_at.as_micros(),
            }),
            _ => Err(Status::internal("the ledger made no token")),
        }
    }

    pub(super) async fn void_token(
        &self,
        writer: Writer,
        request: &RevokeTokenRequest,
    ) -> Result<WriteResponse, Status> {
        let id = read_id(&request.id)?;
        let ledger = self.shared.consensus.ledger();
        match ledger.token(id).map(|token| &token.state) {
            None => return Err(Status::not_found(format!("there is no token {id}"))),
            Some(TokenState::Used { by, .. }) => {
                return Err(Status::failed_precondition(format!(
                    "token {id} is spent: {by} joined with it; revoke that agent instead"
                )));
            }
            Some(TokenState::Expired) => {
                return Err(Status::failed_precondition(format!("token {id} has expired already")));
            }
            Some(TokenState::Open | TokenState::Revoked { .. }) => {}
        }
        writer
            .answer(Command::TokenRevoke { id }, |outcome| match outcome {
                Outcome::Unchanged => format!("token {id} was revoked already"),
                _ => format!("token {id} is revoked"),
            })
            .await
    }
}

/// The public half of a token: 16 hex digits. Whoever pastes the whole token means the same.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn read_id(typed: &str) -> Result<TokenId, Status> {
    if let Ok(token) = typed.parse::<JoinToken>() {
        return Ok(TokenId(token.id));
    }
    let hex = typed.len() == 16 && typed.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(typed, 16).ok().map(TokenId)).flatten().ok_or_else(|| {
        Status::invalid_argument("a token's id is 16 hex digits, as `netguard-admin token list` shows it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_named_by_its_public_half_or_by_all_of_it() {
        let token = JoinToken::generate([7; 32]).unwrap();
        assert_eq!(read_id(&token.to_string()).unwrap(), TokenId(token.id));
        assert_eq!(read_id(&TokenId(token.id).to_string()).unwrap(), TokenId(token.id));
        for bad in ["", "1", "+00000000000000f", "zzzzzzzzzzzzzzzz", "00000000000000001"] {
            assert!(read_id(bad).is_err(), "{bad:?}");
        }
    }
}
