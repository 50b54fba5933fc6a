//! Bearer tokens: JSON Web Tokens that are signed with a secret (HS256).
//!
//! The invariant: **a token that is wrong in any way proves nothing**, and the error does not say why.
//!
//! Two secrets can be in use while an operator replaces one by the other. A token names its secret by the key id
//! (`kid`) and is checked with that secret only. The key id is a hash of the secret. It does not help to guess the secret: an
//! attacker with a token can already compare each guess with the token's signature, and there are too many secrets of 32
//! random bytes to try.
//!
//! A verified token is cached for a few seconds under its hash, because checking the signature and parsing the
//! claims cost as much as the rest of a small request. The cache contains hashes and no tokens, so the duration of a
//! lookup does not help an attacker to guess a token. The times in the token are checked for each request. A rejected
//! token is not cached. Each tenant has a share of the cache, so a tenant with many tokens displaces only its own.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{self, SHA256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use foldhash::HashMap;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    ids::{EntityId as _, TenantId, UserId},
    metrics,
    tenant_cache::TenantCache,
};

/// The minimum length of the secret: the length of the hash (RFC 7518, 3.2).
pub const MIN_SECRET_BYTES: usize = 32;
/// The minimum number of different bytes in the secret. 32 random bytes have fewer with a probability below 10^-30, and
/// 32 random hexadecimal digits with a probability below 1 %.
const MIN_DISTINCT_BYTES: usize = 10;
/// The length of a key id, in bytes of the hash.
const KEY_ID_BYTES: usize = 8;
/// The prefix of the hashed string of a key id, so that the key id differs from every other hash of the secret.
const KEY_ID_LABEL: &[u8] = b"palisade token key id:";
/// The longest lifetime of a token.
pub const MAX_LIFETIME: TimeDelta = TimeDelta::days(31);
/// The accepted difference between the clocks of two machines.
const CLOCK_LEEWAY_SECONDS: u32 = 5;
/// How long a verified token is cached.
const CACHE_LIFETIME: Duration = Duration::from_secs(5);
/// The maximum number of cached tokens, about 250 bytes each. The share of a tenant is 5,000: the number of requests
/// that a tenant may send by default while a token is cached.
const MAX_CACHED_TOKENS: u64 = 40_000;

/// The settings of tokens.
#[derive(Clone, Debug, clap::Args)]
pub struct TokenSettings {
    /// The secret that signs the tokens, at least 32 random bytes.
    #[arg(
        long,
        env = "PALISADE_JWT_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub jwt_secret: Option<SecretString>,
    /// A second secret, while an operator replaces the secret. The service accepts tokens of this secret, but issues
    /// none.
    #[arg(
        long,
        env = "PALISADE_JWT_PREVIOUS_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub jwt_previous_secret: Option<SecretString>,
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

/// A secret is missing or can be guessed. The message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// No secret is set.
    #[error(
        "no token secret: set PALISADE_JWT_SECRET to at least {MIN_SECRET_BYTES} random bytes, for example from \
         `openssl rand -base64 48`"
    )]
    Missing,
    /// The secret is too short.
    #[error(
        "the token secret has {bytes} bytes: {variable} needs at least {MIN_SECRET_BYTES} random bytes, for example \
         from `openssl rand -base64 48`"
    )]
    Short {
        /// The environment variable of the secret.
        variable: &'static str,
        /// The length of the secret.
        bytes: usize,
    },
    /// The secret is long enough, but not random.
    #[error(
        "the token secret can be guessed, because it repeats itself or has few different bytes: set {variable} to at \
         least {MIN_SECRET_BYTES} random bytes, for example from `openssl rand -base64 48`"
    )]
    Repetitive {
        /// The environment variable of the secret.
        variable: &'static str,
    },
}

/// Checks that a secret is long, has enough different bytes and does not repeat itself.
fn check_secret(variable: &'static str, secret: &[u8]) -> Result<(), SecretError> {
    let bytes = secret.len();
    if bytes < MIN_SECRET_BYTES {
        return Err(SecretError::Short { variable, bytes });
    }
    let distinct: BTreeSet<u8> = secret.iter().copied().collect();
    let repeats = |length: usize| {
        let pattern = &secret[..length];
        secret.iter().eq(pattern.iter().cycle().take(bytes))
    };
    if distinct.len() < MIN_DISTINCT_BYTES || (1..=bytes / 2).any(repeats) {
        return Err(SecretError::Repetitive { variable });
    }
    Ok(())
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

/// The hash of a token. A cryptographic hash of the whole token would take much longer. Only a client that has a valid
/// token knows its signature. If that client could find another text with the same `signed_text`, it would gain nothing:
/// the cache returns the identity of its own token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct TokenHash {
    /// The SHA-256 of the signature.
    signature: [u8; digest::SHA256_OUTPUT_LEN],
    /// A hash with a random key of the text that is signed.
    signed_text: u64,
}

/// The random key of `TokenHash::signed_text`.
static SIGNED_TEXT_KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

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

/// The cache of verified tokens.
#[derive(Debug)]
struct VerifiedTokens {
    /// The tokens, and when they were verified. The tenant of a token is known only after the lookup.
    by_hash: Mutex<HashMap<TokenHash, (VerifiedToken, Instant)>>,
    /// The same tokens by tenant. Decides which ones are displaced. Changes only while `by_hash` is locked.
    shares: TenantCache<TokenHash, ()>,
}

impl VerifiedTokens {
    fn new() -> Self {
        Self {
            by_hash: Mutex::default(),
            shares: TenantCache::new(MAX_CACHED_TOKENS),
        }
    }

    fn get(&self, hash: &TokenHash) -> Option<VerifiedToken> {
        let (verified, at) = *self.by_hash.lock().get(hash)?;
        (at.elapsed() < CACHE_LIFETIME).then_some(verified)
    }

    fn insert(&self, hash: TokenHash, verified: VerifiedToken) {
        let now = Instant::now();
        let mut by_hash = self.by_hash.lock();
        by_hash.insert(hash, (verified, now));
        let tenant = verified.identity.tenant;
        for (displaced, ()) in self.shares.insert(tenant, hash, (), 1) {
            let displaced = by_hash.remove(&displaced);
            if displaced.is_some_and(|(_, at)| now.duration_since(at) < CACHE_LIFETIME) {
                metrics::TOKENS_DISPLACED.increment();
            }
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.by_hash.lock().len()
    }
}

/// A secret that verifies tokens.
#[derive(Debug)]
struct VerifyingKey {
    id: String,
    key: DecodingKey,
}

impl VerifyingKey {
    fn new(secret: &[u8]) -> Self {
        let hash = digest::digest(&SHA256, &[KEY_ID_LABEL, secret].concat());
        Self {
            id: base16ct::lower::encode_string(&hash.as_ref()[..KEY_ID_BYTES]),
            key: DecodingKey::from_secret(secret),
        }
    }
}

/// Issues and verifies tokens.
#[derive(Debug)]
pub struct Tokens {
    signing: EncodingKey,
    /// The header of each issued token, with the id of the current key.
    header: Header,
    /// The key that signs, and the other one that is accepted.
    verifying: Vec<VerifyingKey>,
    validation: Validation,
    issuer: String,
    audience: String,
    verified: VerifiedTokens,
}

impl Tokens {
    /// Creates the issuer and verifier for these settings.
    pub fn new(settings: &TokenSettings) -> Result<Self, SecretError> {
        let secret = settings.jwt_secret.as_ref().ok_or(SecretError::Missing)?;
        let secret = secret.expose_secret().as_bytes();
        check_secret("PALISADE_JWT_SECRET", secret)?;
        let current = VerifyingKey::new(secret);
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(current.id.clone());
        let mut verifying = vec![current];
        let previous = settings.jwt_previous_secret.as_ref();
        let previous = previous.map_or("", ExposeSecret::expose_secret).as_bytes();
        // An environment can set the variable to an empty string instead of not setting it.
        if !previous.is_empty() {
            check_secret("PALISADE_JWT_PREVIOUS_SECRET", previous)?;
            verifying.push(VerifyingKey::new(previous));
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
            header,
            verifying,
            validation,
            issuer: settings.jwt_issuer.clone(),
            audience: settings.jwt_audience.clone(),
            verified: VerifiedTokens::new(),
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
        jsonwebtoken::encode(&self.header, &claims, &self.signing)
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

    /// The claims of a token whose signature is valid: by the key that it names, or by any key if it names none.
    fn claims(&self, token: &str, key_id: Option<&str>) -> Option<Claims> {
        self.verifying
            .iter()
            .filter(|key| key_id.is_none_or(|id| id == key.id))
            .find_map(|key| jsonwebtoken::decode(token, &key.key, &self.validation).ok())
            .map(|token| token.claims)
    }

    fn check(&self, token: &str) -> Option<VerifiedToken> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        if !header.typ?.eq_ignore_ascii_case("JWT") || has_critical_extensions(token)? {
            return None;
        }
        let claims = self.claims(token, header.kid.as_deref())?;
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

/// Whether the header of a token has `crit`, which lists extensions that the recipient must understand (RFC 7515,
/// 4.1.11). The service understands none. `crit` is found whatever its value is.
fn has_critical_extensions(token: &str) -> Option<bool> {
    let (header, _) = token.split_once('.')?;
    let header = URL_SAFE_NO_PAD.decode(header).ok()?;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&header).ok()?;
    Some(header.contains_key("crit"))
}

fn hash(token: &str) -> Option<TokenHash> {
    let (signed_text, signature) = token.rsplit_once('.').unwrap_or((token, ""));
    Some(TokenHash {
        signature: digest::digest(&SHA256, signature.as_bytes())
            .as_ref()
            .try_into()
            .ok()?,
        signed_text: SIGNED_TEXT_KEY.hash_one(signed_text),
    })
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
    use serde_json::json;

    use super::*;

    const SECRET: &str = "a secret of exactly 32 characters";
    const NEXT_SECRET: &str = "the next secret, which replaces it";

    fn with_secrets(current: &str, previous: Option<&str>) -> Result<Tokens, SecretError> {
        Tokens::new(&TokenSettings {
            jwt_secret: Some(current.into()),
            jwt_previous_secret: previous.map(SecretString::from),
            jwt_issuer: "palisade".to_owned(),
            jwt_audience: "palisade".to_owned(),
        })
    }

    fn tokens() -> Tokens {
        with_secrets(SECRET, None).unwrap()
    }

    /// A token with the claims of `token` and another header, signed with the secret.
    fn with_header(token: &str, header: &serde_json::Value, secret: &str) -> String {
        let claims = token.split('.').nth(1).unwrap();
        let message = format!("{}.{claims}", URL_SAFE_NO_PAD.encode(header.to_string()));
        let key = EncodingKey::from_secret(secret.as_bytes());
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }

    #[test]
    fn a_replaced_secret_verifies_tokens_and_signs_none() {
        let before = tokens();
        let rotating = with_secrets(NEXT_SECRET, Some(SECRET)).unwrap();
        let after = with_secrets(NEXT_SECRET, None).unwrap();
        let (old, new) = (
            issue(&before, TimeDelta::hours(1)),
            issue(&rotating, TimeDelta::hours(1)),
        );
        let accepted = |tokens: &Tokens| [&old, &new].map(|token| tokens.verify(token).is_ok());
        assert_eq!(accepted(&before), [true, false]);
        assert_eq!(accepted(&rotating), [true, true]);
        assert_eq!(accepted(&after), [false, true]);
        // Other issuers may sign with the secret and give no key id.
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        for secret in [SECRET, NEXT_SECRET] {
            let without_id = with_header(&old, &header, secret);
            assert!(rotating.verify(&without_id).is_ok(), "{secret}");
        }
    }

    #[test]
    fn a_token_is_checked_only_with_the_key_that_it_names() {
        let rotating = with_secrets(NEXT_SECRET, Some(SECRET)).unwrap();
        let token = issue(&rotating, TimeDelta::hours(1));
        let (current, previous) = (&rotating.verifying[0].id, &rotating.verifying[1].id);
        assert_ne!(current, previous);
        assert_eq!(current.len(), 16);
        for (id, secret, expected) in [
            (json!(current), NEXT_SECRET, true),
            (json!(previous), SECRET, true),
            (json!(current), SECRET, false),
            (json!(previous), NEXT_SECRET, false),
            (json!("0000000000000000"), SECRET, false),
            (json!(""), SECRET, false),
            (json!(current.to_uppercase()), NEXT_SECRET, false),
            (json!(1), NEXT_SECRET, false),
        ] {
            let header = json!({ "alg": "HS256", "typ": "JWT", "kid": id });
            let named = with_header(&token, &header, secret);
            assert_eq!(rotating.verify(&named).is_ok(), expected, "{header}");
        }
    }

    #[test]
    fn a_token_with_critical_extensions_is_rejected() {
        let tokens = tokens();
        let token = issue(&tokens, TimeDelta::hours(1));
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        assert!(tokens.verify(&with_header(&token, &header, SECRET)).is_ok());
        for critical in [
            json!(["x"]),
            json!(["exp"]),
            json!([]),
            json!(null),
            json!("x"),
            json!(1),
        ] {
            let header = json!({ "alg": "HS256", "typ": "JWT", "crit": critical, "x": 1 });
            let token = with_header(&token, &header, SECRET);
            assert!(tokens.verify(&token).is_err(), "{header}");
        }
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_rejected() {
        for secret in [
            "a".repeat(64),
            "password".repeat(8),
            "0123456789abcdef".repeat(2),
            "0123456789abcdef0123456789abcdef0123456".to_owned(),
            "abababababbbabababababababbaabababababababab".to_owned(),
            "changeit".repeat(5) + "change",
        ] {
            let error = with_secrets(&secret, None).unwrap_err().to_string();
            assert!(
                error.contains("set PALISADE_JWT_SECRET"),
                "{secret}: {error}"
            );
            assert!(error.contains("`openssl rand -base64 48`"), "{error}");
            assert!(!error.contains(&secret), "{error}");
            let error = with_secrets(SECRET, Some(&secret)).unwrap_err().to_string();
            assert!(
                error.contains("set PALISADE_JWT_PREVIOUS_SECRET"),
                "{error}"
            );
        }
        assert!(with_secrets(SECRET, Some("")).is_ok());
        let short = with_secrets(SECRET, Some("short")).unwrap_err().to_string();
        assert!(
            short.contains("PALISADE_JWT_PREVIOUS_SECRET needs at least 32"),
            "{short}"
        );
        for secret in [
            "9f86d081884c7d659a2feaa0c55ad015",
            "q3Zk0YB1sYxT8m2eWgVbN7uLpRfKcJ4hXdA5zO6iEtQ=",
        ] {
            assert!(with_secrets(secret, Some(SECRET)).is_ok(), "{secret}");
        }
    }

    fn issue(tokens: &Tokens, lifetime: TimeDelta) -> String {
        let (tenant, user) = (TenantId::generate(), UserId::generate());
        tokens.issue(tenant, user, lifetime).unwrap()
    }

    #[test]
    fn a_cached_token_expires_at_its_second() {
        let tokens = tokens();
        let token = issue(&tokens, TimeDelta::seconds(60));
        let identity = tokens.verify(&token).unwrap();
        assert_eq!(tokens.verified.count(), 1);
        let last = identity.expires_at + TimeDelta::seconds(CLOCK_LEEWAY_SECONDS.into());
        assert_eq!(tokens.verify_at(&token, last), Some(identity));
        let after = last + TimeDelta::seconds(1);
        assert_eq!(tokens.verify_at(&token, after), None);
        assert_eq!(
            tokens.verified.count(),
            1,
            "it was rejected although it was cached"
        );
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
        assert_eq!(tokens.verified.count(), 1);
    }

    #[test]
    fn a_rejected_token_is_rejected_each_time() {
        let tokens = tokens();
        let expired = issue(&tokens, TimeDelta::seconds(-60));
        for _ in 0..3 {
            assert!(tokens.verify(&expired).is_err());
        }
        assert_eq!(tokens.verified.count(), 0);
    }

    /// A verified token of a tenant.
    fn verified(tokens: &Tokens, tenant: TenantId) -> VerifiedToken {
        let token = tokens.issue(tenant, UserId::generate(), TimeDelta::seconds(60));
        tokens.check(&token.unwrap()).unwrap()
    }

    #[test]
    fn a_tenant_with_many_tokens_displaces_only_its_own() {
        let tokens = tokens();
        let (greedy, modest) = (TenantId::generate(), TenantId::generate());
        let own = hash("a token of the modest tenant").unwrap();
        tokens.verified.insert(own, verified(&tokens, modest));
        let verified = verified(&tokens, greedy);
        let displaced = metrics::TOKENS_DISPLACED.value();
        for number in 0..2 * MAX_CACHED_TOKENS {
            let hash = hash(&number.to_string()).unwrap();
            tokens.verified.insert(hash, verified);
        }
        assert!(tokens.verified.get(&own).is_some());
        let share = usize::try_from(MAX_CACHED_TOKENS / 8).unwrap();
        assert_eq!(tokens.verified.count(), share + 1);
        let last = (2 * MAX_CACHED_TOKENS - 1).to_string();
        assert!(tokens.verified.get(&hash(&last).unwrap()).is_some());
        assert!(metrics::TOKENS_DISPLACED.value() > displaced);
    }

    #[test]
    fn the_number_of_cached_tokens_is_bounded() {
        let tokens = tokens();
        let share = MAX_CACHED_TOKENS / 8;
        for tenant in 0..10 {
            let verified = verified(&tokens, TenantId::generate());
            for number in 0..share {
                let hash = hash(&format!("{tenant} {number}")).unwrap();
                tokens.verified.insert(hash, verified);
            }
        }
        let count = u64::try_from(tokens.verified.count()).unwrap();
        assert_eq!(count, MAX_CACHED_TOKENS);
    }
}
