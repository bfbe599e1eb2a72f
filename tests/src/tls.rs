//! Certificates of the tests, and a client that trusts one of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::wait::within;

/// A self-signed certificate for `localhost` and its key, in files.
#[derive(Debug)]
pub struct Certificate {
    /// PEM file of the certificate.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
    der: CertificateDer<'static>,
}

impl Certificate {
    /// Writes a fresh pair into `dir`, over a former one.
    ///
    /// # Panics
    /// When it cannot.
    pub fn write(dir: &Path) -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).expect("a certificate");
        let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        std::fs::write(&certificate, cert.pem()).expect("the certificate is written");
        std::fs::write(&key, signing_key.serialize_pem()).expect("the key is written");
        Self { certificate, key, der: cert.der().clone() }
    }

    /// Sends bytes over TLS from this local address, trusting this certificate alone, and reads to the end, or to the end
    /// of a head that upgrades.
    ///
    /// # Errors
    /// When the handshake fails.
    ///
    /// # Panics
    /// When nobody listens, or no end comes.
    pub async fn exchange(&self, from: &str, to: SocketAddr, bytes: &[u8]) -> std::io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a valid certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let talk = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(from.parse().expect("an address"), 0))?;
            let stream = socket.connect(to).await?;
            let name = ServerName::try_from("localhost").expect("a name");
            let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
            stream.write_all(bytes).await?;
            let mut answer = Vec::new();
            loop {
                let read = stream.read_buf(&mut answer).await.unwrap_or(0);
                let upgraded = answer.starts_with(b"HTTP/1.1 101") && answer.windows(4).any(|w| w == b"\r\n\r\n");
                if read == 0 || upgraded {
                    return Ok(String::from_utf8_lossy(&answer).into_owned());
                }
            }
        };
        within("an answer over TLS", talk).await
    }
}
