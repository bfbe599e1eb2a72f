//! One request to a running server, over TLS where the address says so. A command makes a handful of them, so each has a
//! connection of its own; the certificate is checked against the Mozilla roots and `--ca-file`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use url::Url;

/// A relay command may take 8 seconds; signing in waits for its turn.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Why there is no good answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// There was no answer: nobody listens, or the connection broke.
    Unreachable(anyhow::Error),
    /// The server refused, in the shape of every error.
    Refused(u16, Value),
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self::Unreachable(error)
    }
}

/// The file of a `unix:` address.
pub(super) fn socket_file(url: &Url) -> Result<PathBuf> {
    // As a `file:` address, whose escapes are read the same way.
    let file = Url::parse(&format!("file://{}", url.path())).ok().and_then(|url| url.to_file_path().ok());
    file.with_context(|| format!("{url} does not name a file"))
}

/// The address of a socket file.
pub(super) fn socket_url(file: &Path) -> Result<Url> {
    let file = std::path::absolute(file)?;
    let url =
        Url::from_file_path(&file).map_err(|()| anyhow::anyhow!("{} cannot be used as a path", file.display()))?;
    Ok(Url::parse(&format!("unix://{}", url.path()))?)
}

/// A server to talk to, with the credential to send.
pub(super) struct Server {
    url: Url,
    token: Option<SecretString>,
    tls: Arc<ClientConfig>,
}

impl Server {
    /// `ca` is a PEM file of certificates that are trusted as well.
    pub(super) fn new(url: Url, token: Option<SecretString>, ca: Option<&Path>) -> Result<Self> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
        if let Some(path) = ca {
            let named = || format!("{} is not a PEM file of certificates", path.display());
            let mut found = 0;
            for certificate in CertificateDer::pem_file_iter(path).with_context(named)? {
                roots.add(certificate.with_context(named)?).with_context(named)?;
                found += 1;
            }
            anyhow::ensure!(found > 0, named());
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { url, token, tls: Arc::new(tls) })
    }

    /// With this token from now on.
    pub(super) fn with_token(self, token: SecretString) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Asks; gives the body of a success, null without one.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failed> {
        let work = async {
            if self.url.scheme() == "unix" {
                let stream = UnixStream::connect(socket_file(&self.url)?).await?;
                return self.send(stream, method, path, body).await;
            }
            let host = self.url.host_str().context("the address has no host")?;
            let port = self.url.port_or_known_default().context("the address has no port")?;
            let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let stream = TcpStream::connect((bare.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            if self.url.scheme() == "https" {
                let name = ServerName::try_from(bare).context("the host is not a name that a certificate can have")?;
                let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?;
                self.send(stream, method, path, body).await
            } else {
                self.send(stream, method, path, body).await
            }
        };
        let limit = tokio::time::timeout(PATIENCE, work).await;
        let (status, text) = limit.map_err(|_| anyhow::anyhow!("no answer within {} s", PATIENCE.as_secs()))??;
        let json: Value = serde_json::from_slice(&text).unwrap_or(Value::Null);
        if (200..300).contains(&status) { Ok(json) } else { Err(Failed::Refused(status, json)) }
    }

    async fn send<S>(&self, stream: S, method: Method, path: &str, body: Option<Value>) -> Result<(u16, Bytes)>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driving = tokio::spawn(connection);
        // Behind a proxy the server may have a path of its own; a socket file has neither path nor name to ask for.
        let (authority, below) = match self.url.scheme() {
            "unix" => ("localhost", ""),
            _ => (self.url.authority(), self.url.path().trim_end_matches('/')),
        };
        let mut request =
            Request::builder().method(method).uri(format!("{below}{path}")).header(header::HOST, authority);
        request = request.header(header::USER_AGENT, concat!("hexa/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            let mut value = http::HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
                .context("the token contains characters that a token cannot have; sign in with `hexa login`")?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let bytes = match body {
            Some(json) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                serde_json::to_vec(&json)?
            }
            None => Vec::new(),
        };
        let response = sender.send_request(request.body(Full::new(Bytes::from(bytes)))?).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let text =
            body.map_err(|e| anyhow::anyhow!("the connection broke before the whole answer had come: {e}"))?.to_bytes();
        driving.abort();
        Ok((status, text))
    }
}
