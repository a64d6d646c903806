//! `token`: join tokens.

use super::wire::Written;
use crate::{
    Failure,
    args::TokenCommand,
    cluster::{Again, Cluster},
    moment::{ago, iso, left, now},
    output::{Format, Output, View, table},
};
use netguard_proto::v1::{self, CreateTokenRequest, ListTokensRequest, RevokeTokenRequest};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Created {
    token: String,
    id: String,
    role: String,
    expires_at: Option<String>,
    expires_at_us: u64,
}

impl View for Created {
    /// The token alone, so that `$(netguard-admin token create …)` works.
    fn text(&self, _: u64) -> String {
        crate::escape::plain(&self.token).into_owned()
    }
}

#[derive(Debug, Serialize)]
struct Token {
    id: String,
    role: String,
    name: String,
    state: String,
    used_by: String,
    created_by: String,
    created_at: Option<String>,
    created_at_us: u64,
    expires_at: Option<String>,
    expires_at_us: u64,
}

impl From<v1::Token> for Token {
    fn from(token: v1::Token) -> Self {
        Self {
            id: token.id,
            role: token.role,
            name: token.name,
            state: token.state,
            used_by: token.used_by,
            created_by: token.created_by,
            created_at: iso(token.created_at),
            created_at_us: token.created_at,
            expires_at: iso(token.expires_at),
            expires_at_us: token.expires_at,
        }
    }
}

#[derive(Debug, Serialize)]
struct Tokens {
    tokens: Vec<Token>,
}

impl View for Tokens {
    fn text(&self, now: u64) -> String {
        let rows = self.tokens.iter().map(|token| {
            [
                token.id.clone(),
                token.role.clone(),
                token.state.clone(),
                token.name.clone(),
                token.used_by.clone(),
                ago(token.created_at_us, now),
                if token.state == "open" { left(token.expires_at_us, now) } else { String::new() },
                token.created_by.clone(),
            ]
        });
        table(["TOKEN", "ROLE", "STATE", "NAME", "USED BY", "CREATED", "LEFT", "BY"], rows)
    }
}

pub(super) async fn execute(
    command: TokenCommand,
    cluster: &mut Cluster,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { role, name, ttl } => {
            let request = CreateTokenRequest { role: role.clone(), name, ttl_seconds: ttl.unwrap_or(0) };
            // Sent twice it would leave a token open that nobody ever saw.
            let made = cluster
                .call(Again::Never, async |mut client| client.create_token(request.clone()).await)
                .await?;
            let expires_at = iso(made.expires_at);
            if output.format == Format::Table {
                output.remark(&format!(
                    "token {} for one {role}, usable for {}; it is shown only now",
                    made.id,
                    left(made.expires_at, now())
                ));
            }
            output.show(&Created {
                token: made.token,
                id: made.id,
                role,
                expires_at,
                expires_at_us: made.expires_at,
            })
        }
        TokenCommand::List => {
            let listed = cluster
                .call(Again::Safe, async |mut client| client.list_tokens(ListTokensRequest {}).await)
                .await?;
            output.show(&Tokens { tokens: listed.tokens.into_iter().map(Token::from).collect() })
        }
        TokenCommand::Revoke { id } => {
            let request = RevokeTokenRequest { id };
            let written = cluster
                .call(Again::Safe, async |mut client| client.revoke_token(request.clone()).await)
                .await?;
            output.show(&Written::from(written))
        }
    }
}
