//! Bearer tokens: JSON Web Tokens that are signed with one secret (HS256).
//!
//! The invariant: **a token that is wrong in any way proves nothing**, and the error does not say why.

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    ids::{EntityId as _, TenantId, UserId},
};

/// The minimum length of the secret: the length of the hash (RFC 7518, 3.2).
pub const MIN_SECRET_BYTES: usize = 32;
/// The longest lifetime of a token.
pub const MAX_LIFETIME: TimeDelta = TimeDelta::days(31);
/// The accepted difference between the clocks of two machines.
const CLOCK_LEEWAY_SECONDS: u64 = 5;

/// The settings of tokens.
#[derive(Clone, Debug, clap::Args)]
pub struct TokenSettings {
    /// The secret that signs the tokens, at least 32 bytes.
    #[arg(
        long,
        env = "PALISADE_JWT_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub jwt_secret: Option<SecretString>,
    /// The issuer (`iss`) of the tokens.
    #[arg(
        long,
        env = "PALISADE_JWT_ISSUER",
        default_value = "palisade",
        value_name = "NAME"
    )]
    pub jwt_issuer: String,
    /// The audience (`aud`) of the tokens.
    #[arg(
        long,
        env = "PALISADE_JWT_AUDIENCE",
        default_value = "palisade",
        value_name = "NAME"
    )]
    pub jwt_audience: String,
}

/// The secret is missing or too short. The message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// No secret is set.
    #[error("no token secret: set PALISADE_JWT_SECRET to at least {MIN_SECRET_BYTES} random bytes")]
    Missing,
    /// The secret is short enough to be guessed.
    #[error(
        "the token secret has {0} bytes: PALISADE_JWT_SECRET needs at least {MIN_SECRET_BYTES}"
    )]
    Short(usize),
}

/// The claims of a token. A token with a claim that is missing, repeated or of another type is rejected.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    /// The user in the tenant.
    sub: Uuid,
    tenant_id: Uuid,
    iss: String,
    aud: String,
    /// Seconds since 1970, as `iat` and `nbf`.
    exp: i64,
    iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
}

/// What a valid token proves. It does not prove that the user is still an active member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The tenant of the token.
    pub tenant: TenantId,
    /// The user in the tenant.
    pub user: UserId,
    /// The time at which the token expires.
    pub expires_at: DateTime<Utc>,
}

/// Issues and verifies tokens.
#[derive(Debug)]
pub struct Tokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    issuer: String,
    audience: String,
}

impl Tokens {
    /// Creates the issuer and verifier for these settings.
    pub fn new(settings: &TokenSettings) -> Result<Self, SecretError> {
        let secret = settings
            .jwt_secret
            .as_ref()
            .ok_or(SecretError::Missing)?
            .expose_secret()
            .as_bytes();
        if secret.len() < MIN_SECRET_BYTES {
            return Err(SecretError::Short(secret.len()));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        // The library accepts a token without these claims unless they are required here.
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        validation.set_issuer(&[&settings.jwt_issuer]);
        validation.set_audience(&[&settings.jwt_audience]);
        validation.validate_nbf = true;
        validation.leeway = CLOCK_LEEWAY_SECONDS;
        Ok(Self {
            signing: EncodingKey::from_secret(secret),
            verifying: DecodingKey::from_secret(secret),
            validation,
            issuer: settings.jwt_issuer.clone(),
            audience: settings.jwt_audience.clone(),
        })
    }

    /// Issues a token for a user of a tenant. A lifetime above [`MAX_LIFETIME`] is reduced to it.
    pub fn issue(&self, tenant: TenantId, user: UserId, lifetime: TimeDelta) -> Result<String> {
        let now = now();
        let claims = Claims {
            sub: user.uuid(),
            tenant_id: tenant.uuid(),
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            exp: (now + lifetime.min(MAX_LIFETIME)).timestamp(),
            iat: now.timestamp(),
            nbf: None,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map_err(|error| Error::Internal(format!("cannot sign a token: {error}").into()))
    }

    /// Verifies a token. The error is [`Error::Unauthenticated`] for every cause.
    pub fn verify(&self, token: &str) -> Result<Identity> {
        self.check(token).ok_or(Error::Unauthenticated)
    }

    fn check(&self, token: &str) -> Option<Identity> {
        let token =
            jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation).ok()?;
        if !token.header.typ?.eq_ignore_ascii_case("JWT") {
            return None;
        }
        let claims = token.claims;
        let issued = DateTime::from_timestamp(claims.iat, 0)?;
        let expires_at = DateTime::from_timestamp(claims.exp, 0)?;
        let leeway = TimeDelta::seconds(i64::try_from(CLOCK_LEEWAY_SECONDS).ok()?);
        let is_too_long = expires_at.signed_duration_since(issued) > MAX_LIFETIME + leeway;
        if issued > now() + leeway || is_too_long || claims.tenant_id.is_nil() {
            return None;
        }
        Some(Identity {
            tenant: claims.tenant_id.into(),
            user: claims.sub.into(),
            expires_at,
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the lifetime of a token is checked by the clock of this machine"
)]
fn now() -> DateTime<Utc> {
    Utc::now()
}
