//! Claim codes as they are kept: a code has 50 bits, few enough to be tried one by one against a plain hash, so the
//! database holds an HMAC under a key that is not in it. Whoever gets hold of the database alone learns no open code.

use hexa_crypto::hex;
use hexa_crypto::seal::SealKey;
use hexa_crypto::token::Hash;
use hexa_store::KeptCode;
use secrecy::SecretString;

use crate::Devices;
use hexa_platform::change::{Decided, internal};
use hexa_platform::error::Result;

/// Codes in one transaction.
const PIECE: u32 = 500;

/// The key of this installation's claim codes. Signing keys that are rotated have nothing to do with it.
pub(crate) struct Codes {
    key: SealKey,
    name: String,
}

impl std::fmt::Debug for Codes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codes").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Codes {
    /// Under a key that is derived from the installation's secret (`KEY_ENCRYPTION_KEY`).
    pub(crate) fn new(secret: &SecretString) -> Self {
        let key = SealKey::derive(secret, "claim-codes/v1");
        let name = hex(&key.fingerprint(&[b"name"])[..8]);
        Self { key, name }
    }

    /// What the database holds of a code, of which the SHA-256 is enough: so those that were kept as that alone are
    /// brought up to date without being known.
    pub(crate) fn kept(&self, hash: &Hash) -> KeptCode {
        KeptCode { mac: self.key.fingerprint(&[b"code", hash]), key: self.name.clone() }
    }
}

/// Brings codes up to date that another version kept as a plain SHA-256, in pieces, and says how many are void because
/// they were kept under another key. Done at the start, before anybody claims.
///
/// # Errors
/// When the database does not answer.
pub async fn bring_up_to_date(services: &Devices) -> Result<()> {
    let codes = &services.provision.codes;
    let mut done = 0;
    loop {
        let plain = services.store.plain_claim_codes(PIECE).await?;
        if plain.is_empty() {
            break;
        }
        done += plain.len();
        let kept: Vec<_> = plain.into_iter().map(|(device, hash)| (device, codes.kept(&hash))).collect();
        internal(&services.store, move |tx| {
            Box::pin(async move { Ok(Decided::done(tx.seal_claim_codes(&kept).await?)) })
        })
        .await?;
    }
    if done > 0 {
        tracing::info!(
            codes = done,
            "claim codes are kept under a key outside of the database from now on; a copy of the database from before has \
             them in the former way"
        );
    }
    let void = void(services).await?;
    if void > 0 {
        tracing::warn!(
            codes = void,
            "open claim codes were made under another KEY_ENCRYPTION_KEY and are void: put the former key back \
             (secrets/key_encryption_key, or the setting), or have new codes made, by the devices themselves or with \
             POST /api/v1/devices/{{uid}}/claim-code"
        );
    }
    Ok(())
}

/// How many open codes are void because they were kept under another key.
///
/// # Errors
/// When the database does not answer.
pub async fn void(services: &Devices) -> Result<u64> {
    Ok(services.store.void_claim_codes(&services.provision.codes.name, services.guard.latest()).await?)
}

#[cfg(test)]
mod tests {
    use hexa_crypto::token;

    use super::*;

    #[test]
    fn what_is_kept_of_a_code_needs_the_key() {
        let hash = token::claim_code_hash("ABCDE-FGH12").unwrap();
        let (one, other) = (Codes::new(&"one secret".into()), Codes::new(&"another secret".into()));
        assert_eq!(one.kept(&hash), Codes::new(&"one secret".into()).kept(&hash));
        assert_ne!(one.kept(&hash).mac, other.kept(&hash).mac);
        assert_ne!(one.kept(&hash).key, other.kept(&hash).key);
        assert_ne!(one.kept(&hash).mac, hash);
    }
}
