//! Bearer tokens: signed with one secret (HS256), verified strictly.

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    ids::{EntityId as _, TenantId, UserId},
};

/// The shortest secret: as long as the hash (RFC 7518, 3.2).
pub const MIN_SECRET_BYTES: usize = 32;
/// The longest life of a token.
pub const MAX_LIFETIME: TimeDelta = TimeDelta::days(31);
/// How far the clocks of two machines may be apart, in seconds.
const LEEWAY: u64 = 5;

/// How tokens are signed, by whom and for whom.
#[derive(Clone, clap::Args)]
pub struct TokenSettings {
    /// The secret by which tokens are signed; at least 32 bytes.
    #[arg(
        long,
        env = "PALISADE_JWT_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub jwt_secret: Option<String>,
    /// The issuer that tokens must name.
    #[arg(
        long,
        env = "PALISADE_JWT_ISSUER",
        default_value = "palisade",
        value_name = "NAME"
    )]
    pub jwt_issuer: String,
    /// The audience that tokens must name.
    #[arg(
        long,
        env = "PALISADE_JWT_AUDIENCE",
        default_value = "palisade",
        value_name = "NAME"
    )]
    pub jwt_audience: String,
}

/// The secret cannot be used. One line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is none.
    #[error("no token secret: set PALISADE_JWT_SECRET to at least {MIN_SECRET_BYTES} random bytes")]
    Missing,
    /// It can be guessed.
    #[error(
        "the token secret has {0} bytes: PALISADE_JWT_SECRET needs at least {MIN_SECRET_BYTES}"
    )]
    Short(usize),
}

/// What a token says. A claim that is missing, repeated or of another type is refused.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    /// The user, in this tenant.
    sub: Uuid,
    tenant_id: Uuid,
    iss: String,
    aud: String,
    /// Seconds since 1970.
    exp: i64,
    iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
}

/// What a good token proves. Whether the user may still enter is another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The tenant that the token is for.
    pub tenant: TenantId,
    /// The user in this tenant.
    pub user: UserId,
    /// When the token ends.
    pub expires_at: DateTime<Utc>,
}

/// Makes and verifies tokens.
pub struct Tokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    issuer: String,
    audience: String,
}

impl Tokens {
    /// Tokens of these settings.
    pub fn new(settings: &TokenSettings) -> Result<Self, SecretError> {
        let secret = settings
            .jwt_secret
            .as_deref()
            .ok_or(SecretError::Missing)?
            .as_bytes();
        if secret.len() < MIN_SECRET_BYTES {
            return Err(SecretError::Short(secret.len()));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        // The library checks these claims only where they are present, unless told to require them.
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        validation.set_issuer(&[&settings.jwt_issuer]);
        validation.set_audience(&[&settings.jwt_audience]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY;
        Ok(Self {
            signing: EncodingKey::from_secret(secret),
            verifying: DecodingKey::from_secret(secret),
            validation,
            issuer: settings.jwt_issuer.clone(),
            audience: settings.jwt_audience.clone(),
        })
    }

    /// A token for a user of a tenant. A life longer than [`MAX_LIFETIME`] is cut to it.
    pub fn issue(&self, tenant: TenantId, user: UserId, life: TimeDelta) -> Result<String> {
        let now = now();
        let claims = Claims {
            sub: user.uuid(),
            tenant_id: tenant.uuid(),
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            exp: (now + life.min(MAX_LIFETIME)).timestamp(),
            iat: now.timestamp(),
            nbf: None,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map_err(|error| Error::Internal(format!("cannot sign a token: {error}").into()))
    }

    /// What a token proves; [`Error::Unauthenticated`] for every cause.
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
        let leeway = TimeDelta::seconds(i64::try_from(LEEWAY).ok()?);
        let lives_too_long = expires_at.signed_duration_since(issued) > MAX_LIFETIME + leeway;
        if issued > now() + leeway || lives_too_long || claims.tenant_id.is_nil() {
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
    reason = "a token is judged by this machine's clock"
)]
fn now() -> DateTime<Utc> {
    Utc::now()
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TokenSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSettings")
            .field("jwt_issuer", &self.jwt_issuer)
            .finish_non_exhaustive()
    }
}
