//! The signed context of a transaction: its tenant, user, role and purpose, and the request.
//!
//! The invariant: **only a holder of the key can create a context that the database accepts.** The database verifies the
//! MAC wherever a policy reads the context, so SQL that an attacker injects cannot choose another tenant.
//! `app.verified()` in the migrations reads the same format.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

use aws_lc_rs::{digest, hmac, rand};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::{Purpose, TenantContext};
use crate::{
    auth::role::UserRole,
    ids::{EntityId, TenantId},
};

/// The length of the key.
const KEY_BYTES: usize = 32;
/// The block size of SHA-256, to which HMAC pads the key.
const BLOCK_BYTES: usize = 64;
/// The length of a context.
const CONTEXT_LENGTH: usize = 179;
/// The prefix of the hashed bytes of a key id, so that the key id differs from every other hash of the key.
const KEY_ID_LABEL: &[u8] = b"palisade context key id:";

/// The settings of the context.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ContextSettings {
    /// The key that signs the context of each transaction: 32 random bytes, as hexadecimal digits or base64.
    #[arg(
        long,
        env = "PALISADE_CONTEXT_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub context_key: Option<SecretString>,
    /// Do not sign the context. One injected SQL statement can then read every tenant. Only for Citus, which cannot
    /// verify signatures.
    #[arg(
        long,
        env = "PALISADE_UNSIGNED_CONTEXT",
        conflicts_with = "context_key"
    )]
    pub unsigned_context: bool,
}

/// The context key is missing or malformed. The message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ContextKeyError {
    /// No key is set.
    #[error(
        "no context key: set PALISADE_CONTEXT_KEY to the key with which `palisade migrate` ran, 32 random bytes, for \
         example from `openssl rand -hex 32`"
    )]
    Missing,
    /// The value is not 32 bytes.
    #[error(
        "PALISADE_CONTEXT_KEY must be 32 random bytes as 64 hexadecimal digits or as base64, for example from \
         `openssl rand -hex 32`"
    )]
    Malformed,
}

/// The key of contexts.
#[derive(Clone)]
pub struct ContextKey([u8; KEY_BYTES]);

impl ContextKey {
    /// Creates a random key.
    ///
    /// # Panics
    ///
    /// If the system has no random bytes.
    #[must_use]
    pub fn generate() -> Self {
        let mut key = [0; KEY_BYTES];
        rand::fill(&mut key).expect("BUG: the system has no random bytes");
        Self(key)
    }

    /// Parses 64 hexadecimal digits or base64 of 32 bytes.
    pub fn parse(text: &str) -> Result<Self, ContextKeyError> {
        let text = text.trim();
        let bytes = base16ct::mixed::decode_vec(text)
            .ok()
            .filter(|bytes| bytes.len() == KEY_BYTES)
            .or_else(|| STANDARD.decode(text).ok());
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(ContextKeyError::Malformed)
    }

    /// The key as 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        base16ct::lower::encode_string(&self.0)
    }

    /// The name of the key in the database and in a context: two hexadecimal digits of its hash.
    #[must_use]
    pub fn id(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(KEY_ID_LABEL);
        context.update(&self.0);
        base16ct::lower::encode_string(&context.finish().as_ref()[..1])
    }

    /// The inner and the outer pad of HMAC (RFC 2104), which the database stores instead of the key.
    pub(super) fn pads(&self) -> [Vec<u8>; 2] {
        [0x36, 0x5c].map(|pad| {
            let padded = self.0.iter().copied().chain(std::iter::repeat(0));
            padded.take(BLOCK_BYTES).map(|byte| byte ^ pad).collect()
        })
    }
}

impl fmt::Debug for ContextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContextKey({})", self.id())
    }
}

/// Whether the service signs contexts, and with which key.
#[derive(Clone, Debug)]
pub enum Signing {
    /// Each context has a MAC of this key.
    On(ContextKey),
    /// The database accepts every context.
    Off,
}

impl Signing {
    /// Reads the settings.
    pub fn new(settings: &ContextSettings) -> Result<Self, ContextKeyError> {
        if settings.unsigned_context {
            return Ok(Self::Off);
        }
        match &settings.context_key {
            Some(key) => ContextKey::parse(key.expose_secret()).map(Self::On),
            None => Err(ContextKeyError::Missing),
        }
    }
}

/// Writes contexts.
#[derive(Clone, Debug)]
pub struct ContextSigner(Option<Arc<Prepared>>);

/// A key that is ready for use. The hash of its pads is already computed.
#[derive(Debug)]
struct Prepared {
    id: String,
    mac: hmac::Key,
}

impl ContextSigner {
    /// Prepares the key.
    #[must_use]
    pub fn new(signing: &Signing) -> Self {
        Self(match signing {
            Signing::On(key) => Some(Arc::new(Prepared {
                id: key.id(),
                mac: hmac::Key::new(hmac::HMAC_SHA256, &key.0),
            })),
            Signing::Off => None,
        })
    }

    /// Whether contexts have a MAC.
    #[must_use]
    pub fn is_signing(&self) -> bool {
        self.0.is_some()
    }

    /// Writes a context: lower-case letters, capital letters and digits. `issued_at` is in milliseconds since 1970, by
    /// the clock of the database.
    #[must_use]
    pub fn write(
        &self,
        context: &TenantContext,
        purpose: Purpose,
        request_id: Uuid,
        issued_at: i64,
    ) -> String {
        let id = self.0.as_ref().map_or("00", |key| &key.id);
        let user = context.user.map_or(Uuid::nil(), EntityId::uuid);
        let mut text = String::with_capacity(CONTEXT_LENGTH);
        write!(text, "01{id}{issued_at:013}").expect("BUG: writing to a String fails");
        push_uuid(&mut text, context.tenant.uuid());
        push_uuid(&mut text, user);
        text.push(context.role.map_or('0', role_letter));
        text.push(match purpose {
            Purpose::Read => 'r',
            Purpose::Write => 'w',
        });
        push_uuid(&mut text, request_id);
        match &self.0 {
            Some(key) => {
                let mac = hmac::sign(&key.mac, text.as_bytes());
                text += &base16ct::lower::encode_string(mac.as_ref());
            }
            None => text.push_str(&"0".repeat(2 * KEY_BYTES)),
        }
        text
    }

    /// Writes a context of this tenant that has the MAC of another tenant's context.
    pub(super) fn forge(&self, tenant: TenantId, issued_at: i64) -> String {
        let [own, other] = [TenantId::generate(), tenant].map(|tenant| {
            let context = TenantContext {
                tenant,
                user: None,
                role: Some(UserRole::Owner),
            };
            self.write(&context, Purpose::Read, Uuid::nil(), issued_at)
        });
        let mac = CONTEXT_LENGTH - 2 * KEY_BYTES;
        [&other[..mac], &own[mac..]].concat()
    }
}

/// The letter of a role. `app.role()` in the migrations maps it to the role.
const fn role_letter(role: UserRole) -> char {
    match role {
        UserRole::Owner => 'O',
        UserRole::Admin => 'A',
        UserRole::Member => 'M',
        UserRole::Billing => 'B',
        UserRole::Viewer => 'V',
    }
}

/// Writes a UUID as 32 hexadecimal digits.
fn push_uuid(text: &mut String, id: Uuid) {
    text.push_str(id.simple().encode_lower(&mut Uuid::encode_buffer()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn a_key_is_hexadecimal_or_base64() {
        let key = ContextKey::parse(KEY).unwrap();
        assert_eq!(key.to_hex(), KEY);
        let base64 = "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=";
        assert_eq!(ContextKey::parse(base64).unwrap().to_hex(), KEY);
        assert_eq!(ContextKey::parse(&KEY.to_uppercase()).unwrap().0, key.0);
        for wrong in ["", "00", &KEY[1..], &KEY[2..], "not a key", &KEY.repeat(2)] {
            assert!(ContextKey::parse(wrong).is_err(), "{wrong}");
        }
        assert!(!format!("{key:?}").contains(&KEY[..8]));
        assert_ne!(ContextKey::generate().0, ContextKey::generate().0);
    }

    #[test]
    fn the_pads_give_the_mac_of_the_context() {
        let key = ContextKey::parse(KEY).unwrap();
        let context = TenantContext {
            tenant: TenantId::generate(),
            user: Some(UserId::generate()),
            role: Some(UserRole::Billing),
        };
        let signer = ContextSigner::new(&Signing::On(key.clone()));
        let text = signer.write(&context, Purpose::Write, Uuid::now_v7(), 1_763_000_000_000);
        assert_eq!(text.len(), CONTEXT_LENGTH);
        assert_eq!(&text[..17], format!("01{}1763000000000", key.id()));
        assert_eq!(&text[81..83], "Bw");
        let (message, mac) = text.split_at(CONTEXT_LENGTH - 64);
        let [inner, outer] = key.pads();
        let hash = |pad: &[u8], rest: &[u8]| {
            digest::digest(&digest::SHA256, &[pad, rest].concat())
                .as_ref()
                .to_vec()
        };
        let expected = hash(&outer, &hash(&inner, message.as_bytes()));
        assert_eq!(mac, base16ct::lower::encode_string(&expected));
    }

    #[test]
    fn a_forged_context_differs_from_an_own_one_in_the_tenant_and_the_mac() {
        let signer = ContextSigner::new(&Signing::On(ContextKey::generate()));
        let context = TenantContext {
            tenant: TenantId::generate(),
            user: None,
            role: Some(UserRole::Owner),
        };
        let own = signer.write(&context, Purpose::Read, Uuid::nil(), 1_763_000_000_000);
        let forged = signer.forge(context.tenant, 1_763_000_000_000);
        assert_eq!(own[..115], forged[..115]);
        assert_ne!(own[115..], forged[115..]);
    }

    #[test]
    fn every_role_has_a_letter_in_the_migrations() {
        let migration = include_str!("../../migrations/20261121000100_tenant_context.sql");
        for role in [
            UserRole::Owner,
            UserRole::Admin,
            UserRole::Member,
            UserRole::Billing,
            UserRole::Viewer,
        ] {
            let case = format!("when '{}' then '{}'", role_letter(role), role.as_str());
            assert!(migration.contains(&case), "{case}");
        }
    }
}
