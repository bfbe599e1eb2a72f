//! TLS without a proxy: certificate and key from files, read again when they change (TR, ASVS 12.1).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, version};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A pair of files that cannot be used; says which and why.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read, or holds nothing of its kind.
    #[error("{0}: {1}")]
    File(PathBuf, String),
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("certificate {0} and key {1} cannot be used together: {2}")]
    Pair(PathBuf, PathBuf, String),
}

/// What connections are encrypted with.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.certificate).field("key", &self.key).finish_non_exhaustive()
    }
}

fn load(certificate: &PathBuf, key: &PathBuf) -> Result<Arc<ServerConfig>, TlsError> {
    let of = |path: &PathBuf| fs::read(path).map_err(|e| TlsError::File(path.clone(), e.to_string()));
    let broken = |path: &PathBuf, what: &dyn std::fmt::Display| TlsError::File(path.clone(), what.to_string());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&of(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|e| broken(certificate, &e))?;
    if chain.is_empty() {
        return Err(broken(certificate, &"it holds no certificate in PEM form"));
    }
    let secret = PrivateKeyDer::from_pem_slice(&of(key)?).map_err(|_| {
        broken(key, &"it holds no private key in PEM form (PKCS#8, PKCS#1 or SEC1, without a passphrase)")
    })?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let pair = |e: tokio_rustls::rustls::Error| TlsError::Pair(certificate.clone(), key.clone(), e.to_string());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What is looked at to see whether a file was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    place: (u64, u64),
    changed: (i64, i64),
    long: u64,
}

impl Tls {
    /// From PEM files: the certificate with its chain, and its key.
    ///
    /// # Errors
    /// [`TlsError`]: the server does not start without what it was told to use.
    pub fn new(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let config = ArcSwap::new(load(&certificate, &key)?);
        Ok(Self { certificate, key, config })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// By which a file is told from the one before: a copy may keep the time of its content, but neither its own change
    /// time nor its place.
    fn marks(&self) -> [Option<Mark>; 2] {
        let mark =
            |m: fs::Metadata| Mark { place: (m.dev(), m.ino()), changed: (m.ctime(), m.ctime_nsec()), long: m.len() };
        [&self.certificate, &self.key].map(|path| fs::metadata(path).ok().map(mark))
    }

    /// Takes up a renewed pair within seconds, for new connections, until `stop`. A pair that cannot be used is logged
    /// and the old one kept: certbot writes the two files one after the other.
    pub async fn watch(&self, stop: &CancellationToken) {
        let mut seen = self.marks();
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let now = self.marks();
            if now == seen {
                continue;
            }
            seen = now;
            match load(&self.certificate, &self.key) {
                Ok(config) => {
                    self.config.store(config);
                    tracing::info!("the TLS certificate was renewed");
                }
                Err(error) => tracing::error!(%error, "the renewed TLS files cannot be used; the former ones stay"),
            }
        }
    }
}
