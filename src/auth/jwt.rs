//! Bearer tokens: JSON Web Tokens that are signed with one secret (HS256).
//!
//! The invariant: **a token that is wrong in any way proves nothing**, and the error does not say why.
//!
//! A verified token is cached for a few seconds under its SHA-256, because checking the signature and parsing the
//! claims cost as much as the rest of a small request. The cache contains hashes and no tokens, so the duration of a
//! lookup does not help an attacker to guess a token. The times in the token are checked for each request. A rejected
//! token is not cached.

use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use moka::sync::Cache;
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
const CLOCK_LEEWAY_SECONDS: u32 = 5;
/// How long a verified token is cached.
const CACHE_LIFETIME: Duration = Duration::from_secs(5);
/// The maximum number of cached tokens, about 200 bytes each.
const MAX_CACHED_TOKENS: u64 = 10_000;

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
    /// The secret is too short, so an attacker could guess it.
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
    /// In seconds since 1970, like `iat` and `nbf`.
    exp: i64,
    iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
}

/// The tenant and the user that a valid token proves. Whether the user is still an active member is checked in
/// `membership.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The tenant of the token.
    pub tenant: TenantId,
    /// The user in the tenant.
    pub user: UserId,
    /// The time at which the token expires.
    pub expires_at: DateTime<Utc>,
}

/// The SHA-256 of a token.
type TokenHash = [u8; digest::SHA256_OUTPUT_LEN];

/// A token whose signature and claims were verified.
#[derive(Clone, Copy, Debug)]
struct VerifiedToken {
    identity: Identity,
    /// The later of `iat` and `nbf`.
    valid_from: i64,
}

impl VerifiedToken {
    /// Whether the token is already valid and not expired, with the same leeway as in the first verification.
    fn is_valid_at(&self, now: DateTime<Utc>) -> bool {
        let (now, leeway) = (now.timestamp(), i64::from(CLOCK_LEEWAY_SECONDS));
        self.valid_from <= now + leeway && self.identity.expires_at.timestamp() >= now - leeway
    }
}

/// Issues and verifies tokens.
#[derive(Debug)]
pub struct Tokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    issuer: String,
    audience: String,
    verified: Cache<TokenHash, VerifiedToken>,
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
        validation.leeway = CLOCK_LEEWAY_SECONDS.into();
        Ok(Self {
            signing: EncodingKey::from_secret(secret),
            verifying: DecodingKey::from_secret(secret),
            validation,
            issuer: settings.jwt_issuer.clone(),
            audience: settings.jwt_audience.clone(),
            verified: Cache::builder()
                .max_capacity(MAX_CACHED_TOKENS)
                .time_to_live(CACHE_LIFETIME)
                .build(),
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
        self.verify_at(token, now()).ok_or(Error::Unauthenticated)
    }

    fn verify_at(&self, token: &str, now: DateTime<Utc>) -> Option<Identity> {
        let hash = hash(token)?;
        let verified = if let Some(verified) = self.verified.get(&hash) {
            verified
        } else {
            let verified = self.check(token)?;
            self.verified.insert(hash, verified);
            verified
        };
        verified.is_valid_at(now).then_some(verified.identity)
    }

    fn check(&self, token: &str) -> Option<VerifiedToken> {
        let token =
            jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation).ok()?;
        if !token.header.typ?.eq_ignore_ascii_case("JWT") {
            return None;
        }
        let claims = token.claims;
        let issued = DateTime::from_timestamp(claims.iat, 0)?;
        let expires_at = DateTime::from_timestamp(claims.exp, 0)?;
        let leeway = TimeDelta::seconds(CLOCK_LEEWAY_SECONDS.into());
        let is_too_long = expires_at.signed_duration_since(issued) > MAX_LIFETIME + leeway;
        if issued > now() + leeway || is_too_long || claims.tenant_id.is_nil() {
            return None;
        }
        let identity = Identity {
            tenant: claims.tenant_id.into(),
            user: claims.sub.into(),
            expires_at,
        };
        Some(VerifiedToken {
            identity,
            valid_from: claims.nbf.map_or(claims.iat, |nbf| nbf.max(claims.iat)),
        })
    }
}

fn hash(token: &str) -> Option<TokenHash> {
    let hash = digest::digest(&SHA256, token.as_bytes());
    hash.as_ref().try_into().ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the lifetime of a token is checked by the clock of this machine"
)]
fn now() -> DateTime<Utc> {
    Utc::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let settings = TokenSettings {
            jwt_secret: Some("a secret of exactly 32 characters".into()),
            jwt_issuer: "palisade".to_owned(),
            jwt_audience: "palisade".to_owned(),
        };
        Tokens::new(&settings).unwrap()
    }

    fn issue(tokens: &Tokens, lifetime: TimeDelta) -> String {
        let (tenant, user) = (TenantId::generate(), UserId::generate());
        tokens.issue(tenant, user, lifetime).unwrap()
    }

    fn count(tokens: &Tokens) -> u64 {
        tokens.verified.run_pending_tasks();
        tokens.verified.entry_count()
    }

    #[test]
    fn a_cached_token_expires_at_its_second() {
        let tokens = tokens();
        let token = issue(&tokens, TimeDelta::seconds(60));
        let identity = tokens.verify(&token).unwrap();
        assert_eq!(count(&tokens), 1);
        let last = identity.expires_at + TimeDelta::seconds(CLOCK_LEEWAY_SECONDS.into());
        assert_eq!(tokens.verify_at(&token, last), Some(identity));
        let after = last + TimeDelta::seconds(1);
        assert_eq!(tokens.verify_at(&token, after), None);
        assert_eq!(count(&tokens), 1, "it was rejected although it was cached");
    }

    #[test]
    fn a_cached_token_is_not_valid_before_its_time() {
        let tokens = tokens();
        let token = issue(&tokens, TimeDelta::seconds(60));
        tokens.verify(&token).unwrap();
        let before = now() - TimeDelta::seconds(10);
        assert_eq!(tokens.verify_at(&token, before), None);
    }

    #[test]
    fn a_token_with_one_changed_byte_is_rejected_and_not_cached() {
        let tokens = tokens();
        let token = issue(&tokens, TimeDelta::seconds(60));
        tokens.verify(&token).unwrap();
        for position in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[position] = if changed[position] == b'A' {
                b'B'
            } else {
                b'A'
            };
            let changed = String::from_utf8(changed).unwrap();
            assert!(tokens.verify(&changed).is_err(), "{position}: {changed}");
        }
        for other in ["", &token[1..], &format!("{token}=")] {
            assert!(tokens.verify(other).is_err(), "{other}");
        }
        assert_eq!(count(&tokens), 1);
    }

    #[test]
    fn a_rejected_token_is_rejected_each_time() {
        let tokens = tokens();
        let expired = issue(&tokens, TimeDelta::seconds(-60));
        for _ in 0..3 {
            assert!(tokens.verify(&expired).is_err());
        }
        assert_eq!(count(&tokens), 0);
    }

    #[test]
    fn the_number_of_cached_tokens_is_bounded() {
        let tokens = tokens();
        let token = issue(&tokens, TimeDelta::seconds(60));
        let verified = tokens.check(&token).unwrap();
        for number in 0..2 * MAX_CACHED_TOKENS {
            let hash = hash(&number.to_string()).unwrap();
            tokens.verified.insert(hash, verified);
        }
        let count = count(&tokens);
        assert!((1..=MAX_CACHED_TOKENS).contains(&count), "{count}");
    }
}
