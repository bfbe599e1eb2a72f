//! How a device gets its credentials and its owner, over HTTP.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use url::Url;

use super::args::Plan;
use super::credential_store::{CredentialStore, Credentials};

/// Provisioning and claiming requests under way at once; of an account the server takes fewer claims together than it may
/// have wrong codes (`LIMIT_CLAIM_FAILURES`).
const AT_ONCE: usize = 4;
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a device has no credentials.
#[derive(Debug)]
pub(super) enum Refused {
    /// Asking again changes nothing: the server's words.
    ForGood(String),
    /// Worth another try, not before this time if the server named one.
    ForNow(String, Option<Duration>),
}

/// Registers and claims new devices.
#[derive(Debug)]
pub(super) struct Enrolment {
    http: reqwest::Client,
    server: Url,
    provision_key: Option<SecretString>,
    user_token: Option<SecretString>,
    turns: Semaphore,
    pub(super) book: CredentialStore,
}

#[derive(Deserialize)]
struct Provisioned {
    device_uid: String,
    device_token: String,
    claim_code: String,
}

impl Enrolment {
    /// For a plan, with the credentials that are kept.
    pub(super) fn new(plan: &Plan, book: CredentialStore) -> anyhow::Result<Self> {
        // Not through a proxy: device sockets do not go through one either.
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        Ok(Self {
            http,
            server: plan.server.clone(),
            provision_key: plan.provision_key.clone(),
            user_token: plan.user_token.clone(),
            turns: Semaphore::new(AT_ONCE),
            book,
        })
    }

    /// The credentials of device `index`: those it has, or new ones with so many relays. Also claims it if there is a user and it has no
    /// owner yet; a claim that fails is told to `complain` and leaves the device usable.
    pub(super) async fn credentials(
        &self,
        index: usize,
        relays: u16,
        complain: impl Fn(&str),
    ) -> Result<Credentials, Refused> {
        let known = self.book.get(index);
        if let Some(known) = known.as_ref().filter(|k| k.claimed || self.user_token.is_none()) {
            return Ok(known.clone());
        }
        // The semaphore is never closed; if it were, going on unpaced would be right.
        let _turn = self.turns.acquire().await;
        let (mut credentials, code) = if let Some(known) = known {
            (known, None)
        } else {
            let (new, code) = self.provision(relays).await?;
            self.book.put(index, Some(new.clone()));
            (new, Some(code))
        };
        if let Some(user) = &self.user_token {
            match self.claim(&credentials, code, user).await {
                Ok(()) => {
                    credentials.claimed = true;
                    self.book.put(index, Some(credentials.clone()));
                }
                Err(Refused::ForGood(why)) => complain(&format!("device not claimed: {why}")),
                Err(later @ Refused::ForNow(..)) => return Err(later),
            }
        }
        Ok(credentials)
    }

    /// Forgets credentials that the server does not know; false when there is no key to get new ones.
    pub(super) fn forget(&self, index: usize) -> bool {
        let possible = self.provision_key.is_some();
        if possible {
            self.book.put(index, None);
        }
        possible
    }

    async fn provision(&self, relays: u16) -> Result<(Credentials, String), Refused> {
        let Some(key) = &self.provision_key else {
            let what = "the state file has too few devices, and there is no provisioning key to register more; give --provision-key-file";
            return Err(Refused::ForGood(what.into()));
        };
        let body = json!({
            "device_class": "relay_controller",
            "model": "hexa-sim",
            "hardware": "hexa-sim",
            "firmware_version": env!("CARGO_PKG_VERSION"),
            "relay_count": relays,
            "input_count": relays,
        });
        let request = self.post("/api/v1/provision/register").header("x-provision-key", key.expose_secret());
        let answer = send(request.json(&body), "provisioning").await?;
        let given: Provisioned = serde_json::from_value(answer)
            .map_err(|e| Refused::ForGood(format!("provisioning: the server's answer is not as documented: {e}")))?;
        let credentials =
            Credentials { uid: given.device_uid, token: given.device_token.into(), relays, claimed: false };
        Ok((credentials, given.claim_code))
    }

    /// A device from an earlier start asks for a fresh code first: its old one has probably expired, and wrong codes
    /// are limited.
    async fn claim(&self, device: &Credentials, code: Option<String>, user: &SecretString) -> Result<(), Refused> {
        let code = match code {
            Some(code) => code,
            None => match self.renew_code(device).await {
                Ok(code) => code,
                Err(Refused::ForGood(why)) if why.contains("already_claimed") => return Ok(()),
                Err(other) => return Err(other),
            },
        };
        let request = self.post("/api/v1/devices/claim").bearer_auth(user.expose_secret().trim());
        send(request.json(&json!({ "code": code })), "claiming").await.map(drop)
    }

    async fn renew_code(&self, device: &Credentials) -> Result<String, Refused> {
        let credentials = format!("Device {}:{}", device.uid, device.token.expose_secret());
        let request = self.post("/api/v1/devices/claim-code").header(AUTHORIZATION, credentials);
        let answer = send(request, "a new claim code").await?;
        let code = answer["claim_code"].as_str().map(str::to_owned);
        code.ok_or_else(|| Refused::ForGood("a new claim code: the server's answer does not contain one".into()))
    }

    fn post(&self, path: &str) -> RequestBuilder {
        let mut url = self.server.clone();
        url.set_path(path);
        self.http.post(url)
    }
}

async fn send(request: RequestBuilder, what: &str) -> Result<Value, Refused> {
    let unreachable = |e: reqwest::Error| Refused::ForNow(format!("{what}: {}", innermost(&e)), None);
    let response = request.send().await.map_err(unreachable)?;
    let (status, after) = (response.status(), retry_after(response.headers()));
    let body = response.bytes().await.map_err(unreachable)?;
    if status.is_success() {
        return serde_json::from_slice(&body)
            .map_err(|e| Refused::ForGood(format!("{what}: the server's answer is not JSON: {e}")));
    }
    let words = format!("{what}: {}", server_words(status.as_u16(), &body));
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT || status.is_server_error() {
        Err(Refused::ForNow(words, after))
    } else {
        Err(Refused::ForGood(words))
    }
}

/// `Retry-After`, when it is given in seconds.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What the error body says, for people.
pub(super) fn server_words(status: u16, body: &[u8]) -> String {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    match (parsed["code"].as_str(), parsed["message"].as_str()) {
        (Some(code), Some(message)) => format!("the server answered {status} {code}: {message}"),
        _ => format!("the server answered {status}"),
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    format!("no answer from the server: {cause}")
}
