//! Commands that talk to a running server: sign in once, then list, look and switch.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 wrong arguments, 69 nobody answers, 77 not signed in or not allowed
//! (`sysexits.h`).

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use ::http::Method;
use anyhow::{Context, Result, bail};
use hexa_listen::Maintenance;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::{Host, Url};

use super::http::{self, Failed, Server};
use super::profile::{self, Profile};
use super::runtime;

const EX_UNAVAILABLE: u8 = 69;
const EX_NOPERM: u8 = 77;
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// Which server, and as whom.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Where {
    /// Address of the server (`HEXA_URL`) [default: that of the profile, else the maintenance listener of this machine,
    /// else http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// File with an access token, instead of the profile's (`HEXA_TOKEN` holds the token itself)
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Profile [default: ~/.config/hexa/profile.toml] (`HEXA_PROFILE`)
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Certificates to trust beside the public ones, PEM (`HEXA_CA_FILE`)
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Send credentials over plain HTTP to another machine
    #[arg(long)]
    insecure_http: bool,
    /// Print the answer as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Sign in with a password.
#[derive(Debug, clap::Args)]
pub(super) struct LoginArgs {
    #[command(flatten)]
    at: Where,
    /// E-mail of the account; asked for if it is not given
    #[arg(long)]
    email: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// What the token is called in the list of tokens
    #[arg(long, default_value = "hexa command line")]
    name: String,
    /// Scopes: what the token may be used for
    #[arg(long, value_delimiter = ',', default_value = "devices:read,devices:write,relays:write,preferences")]
    scopes: Vec<String>,
    /// Days until the token expires
    #[arg(long, default_value_t = 90)]
    expires_in_days: u32,
}

/// What to do with devices.
#[derive(Debug, clap::Subcommand)]
pub(super) enum DevicesCommand {
    /// List your devices, and those shared with you.
    List {
        #[command(flatten)]
        at: Where,
        /// Devices of all accounts, for admins
        #[arg(long)]
        all: bool,
    },
    /// Show a device with its relays.
    Show {
        uid: String,
        #[command(flatten)]
        at: Where,
    },
}

/// The state that a relay is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

/// Switch a relay, or all relays of a device.
#[derive(Debug, clap::Args)]
pub(super) struct RelayArgs {
    /// Uid of the device
    uid: String,
    /// Index of the relay, or `all`
    relay: String,
    state: Switch,
    /// Switch back after this many milliseconds
    #[arg(long)]
    for_ms: Option<u32>,
    #[command(flatten)]
    at: Where,
}

/// What to do with the keys of access tokens.
#[derive(Debug, clap::Subcommand)]
pub(super) enum KeysCommand {
    /// List the keys: active, next and retired.
    List {
        #[command(flatten)]
        at: Where,
    },
    /// Sign with the next key from now on.
    Rotate {
        /// The present key has leaked: refuse every access token at once
        #[arg(long)]
        at_once: bool,
        #[command(flatten)]
        at: Where,
    },
}

/// Why a command did not end well.
pub(super) enum Ended {
    Server(Failed),
    /// Before the server was asked, or about a file here.
    Here(anyhow::Error),
}

impl From<Failed> for Ended {
    fn from(failed: Failed) -> Self {
        Self::Server(failed)
    }
}
impl From<anyhow::Error> for Ended {
    fn from(error: anyhow::Error) -> Self {
        Self::Here(error)
    }
}

pub(super) type Done = Result<(), Ended>;

pub(super) fn run(as_json: bool, work: impl Future<Output = Done>) -> ExitCode {
    let ended = match runtime() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => Err(error.into()),
    };
    let Err(ended) = ended else { return ExitCode::SUCCESS };
    let (code, body) = match ended {
        Ended::Here(error) => (1, json!({ "code": "failed", "message": format!("{error:#}") })),
        Ended::Server(Failed::Unreachable(error)) => (
            EX_UNAVAILABLE,
            json!({ "code": "unreachable", "message": format!("the server does not answer: {error:#}") }),
        ),
        Ended::Server(Failed::Refused(status, body)) => {
            let code = if matches!(status, 401 | 403) { EX_NOPERM } else { 1 };
            let unknown = || json!({ "code": "unknown", "message": format!("the server answered {status}") });
            (code, if body["code"].is_string() { body } else { unknown() })
        }
    };
    if as_json {
        eprintln!("{body}");
    } else {
        let text = |member: &str| body[member].as_str().unwrap_or_default().to_owned();
        let request = body["request_id"].as_str().map_or_else(String::new, |id| format!(" [request {id}]"));
        eprintln!("hexa: {} ({}){request}", text("message"), text("code"));
        if code == EX_NOPERM && text("code") == "invalid_token" {
            eprintln!("hexa: sign in with `hexa login`");
        }
    }
    ExitCode::from(code)
}

impl Where {
    fn profile(&self) -> Result<(PathBuf, Option<Profile>)> {
        let path = profile::path(self.profile.clone())?;
        let found = profile::read(&path)?;
        Ok((path, found))
    }

    fn ca_file(&self) -> Option<PathBuf> {
        self.ca_file.clone().or_else(|| std::env::var_os("HEXA_CA_FILE").map(PathBuf::from))
    }

    /// The address that was asked for by name, if one was.
    fn given_url(&self) -> Result<Option<Url>> {
        let given = self.url.clone().or_else(|| std::env::var("HEXA_URL").ok());
        let Some(text) = given else { return Ok(None) };
        let url: Url =
            text.parse().with_context(|| format!("{text:?} is not an address such as https://hexa.example.com"))?;
        let file = url.scheme() == "unix" && http::socket_file(&url).is_ok();
        if !file && (!matches!(url.scheme(), "http" | "https") || url.host().is_none()) {
            bail!("{text:?} is not an address such as https://hexa.example.com or unix:///path/of/maintenance.sock");
        }
        Ok(Some(url))
    }

    /// The server of this machine: its maintenance listener where somebody listens there.
    fn url_here() -> Result<Url> {
        match crate::config::maintenance_here() {
            Some(Maintenance::File(path)) if std::os::unix::net::UnixStream::connect(&path).is_ok() => {
                http::socket_url(&path)
            }
            Some(Maintenance::Address(address)) if std::net::TcpStream::connect(address).is_ok() => {
                Ok(Url::parse(&format!("http://{address}"))?)
            }
            _ => Ok(DEFAULT_URL.parse()?),
        }
    }

    fn check(&self, url: &Url) -> Result<()> {
        let here = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        if url.scheme() == "http" && !here && !self.insecure_http {
            bail!(
                "{url} is plain HTTP to another machine: everybody on the way could read the credentials. Use https://, or --insecure-http"
            );
        }
        Ok(())
    }

    /// The server, with a token.
    pub(super) fn server(&self) -> Result<Server> {
        let (_, profile) = self.profile()?;
        let given = self.given_url()?;
        let url = match (&given, &profile) {
            (Some(url), _) => url.clone(),
            (None, Some(profile)) => profile.url.clone(),
            (None, None) => Self::url_here()?,
        };
        self.check(&url)?;
        let token = if let Some(file) = &self.token_file {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            Some(text.trim().to_owned().into())
        } else if let Ok(token) = std::env::var("HEXA_TOKEN") {
            Some(token.into())
        } else {
            // A token goes to the server that gave it, and to no other.
            profile.as_ref().filter(|p| same_server(&p.url, &url)).map(|p| p.token.clone())
        };
        let ca = self.ca_file().or_else(|| profile.and_then(|p| p.ca_file));
        Server::new(url, token, ca.as_deref())
    }

    pub(super) fn show(&self, value: &Value, text: impl FnOnce(&Value) -> String) {
        if self.json {
            println!("{value}");
        } else {
            print!("{}", text(value));
        }
    }
}

/// Whether a token of the one is good for the other.
fn same_server(a: &Url, b: &Url) -> bool {
    let path = |url: &Url| url.path().trim_end_matches('/').to_owned();
    // The origin of a socket file equals nothing, not even itself.
    (a.scheme() == "unix" || a.origin() == b.origin()) && a.scheme() == b.scheme() && path(a) == path(b)
}

fn ask(what: &str) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask for the {what}: use --email and --password-stdin");
    }
    eprint!("{what}: ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

fn password(stdin: bool) -> Result<SecretString> {
    let text = if stdin {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    } else {
        rpassword::prompt_password("password: ")
            .context("there is no terminal for the password: use --password-stdin")?
    };
    Ok(text.into())
}

/// Runs `hexa login`: keeps a token in the profile.
pub(super) fn login(args: LoginArgs) -> ExitCode {
    run(args.at.json, async {
        // A profile that is in the way is replaced, also a damaged one.
        let path = profile::path(args.at.profile.clone())?;
        let url = match args.at.given_url()? {
            Some(url) => url,
            None => Where::url_here()?,
        };
        args.at.check(&url)?;
        let email = match args.email {
            Some(email) => email,
            None => ask("e-mail")?,
        };
        let password = password(args.password_stdin)?;
        let ca_file = args.at.ca_file();
        let ca_file = ca_file.map(std::path::absolute).transpose().context("cannot use --ca-file")?;
        let server = Server::new(url.clone(), None, ca_file.as_deref())?;
        let body = json!({ "email": email, "password": password.expose_secret() });
        let session = server.call(Method::POST, "/api/v1/auth/login", Some(body)).await?;
        let text = |member: &str| session[member].as_str().map(str::to_owned).context("the answer is not a session");
        let server = server.with_token(text("access_token")?.into());
        let body = json!({ "name": args.name, "scopes": args.scopes, "expires_in_days": args.expires_in_days });
        let made = server.call(Method::POST, "/api/v1/auth/tokens", Some(body)).await;
        // The session was for this alone.
        let end = json!({ "refresh_token": text("refresh_token")? });
        server.call(Method::POST, "/api/v1/auth/logout", Some(end)).await?;
        let made = made?;
        let token = made["token"].as_str().context("the server's answer is not a token")?.to_owned();
        let former = profile::read(&path).ok().flatten().filter(|p| same_server(&p.url, &url));
        profile::write(&path, &Profile { url: url.clone(), token: token.into(), ca_file: ca_file.clone() })?;
        if let Some(former) = former {
            // Nobody has it any more. If it is dead already, that is as well.
            let server = Server::new(url.clone(), Some(former.token), ca_file.as_deref())?;
            let _ = server.call(Method::DELETE, "/api/v1/auth/tokens/current", None).await;
        }
        let shown = json!({
            "url": url.as_str(), "email": session["user"]["email"], "profile": path, "scopes": made["scopes"],
            "expires_at": made["expires_at"],
        });
        args.at.show(&shown, |s| {
            let text = |member: &str| s[member].as_str().unwrap_or_default().to_owned();
            format!(
                "signed in to {} as {} until {}; kept in {}\n",
                text("url"),
                text("email"),
                text("expires_at"),
                text("profile")
            )
        });
        Ok(())
    })
}

/// Runs `hexa logout`: revokes the token and removes the profile.
pub(super) fn logout(at: &Where) -> ExitCode {
    run(at.json, async {
        let (path, profile) = at.profile()?;
        let Some(profile) = profile else {
            at.show(&json!({ "signed_in": false }), |_| "nobody is signed in: there is no profile\n".to_owned());
            return Ok(());
        };
        let ca = at.ca_file().or(profile.ca_file);
        let server = Server::new(profile.url, Some(profile.token), ca.as_deref())?;
        let revoked = server.call(Method::DELETE, "/api/v1/auth/tokens/current", None).await;
        match revoked {
            // Dead already: that is what was wanted.
            Ok(_) | Err(Failed::Refused(401, _)) => {}
            Err(other) => {
                eprintln!("hexa: the token was not revoked, so the profile is kept: {}", path.display());
                return Err(other.into());
            }
        }
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        at.show(&json!({ "signed_in": false }), |_| "signed out; the token was revoked\n".to_owned());
        Ok(())
    })
}

/// Runs `hexa whoami`: the account behind the token.
pub(super) fn whoami(at: &Where) -> ExitCode {
    run(at.json, async {
        let me = at.server()?.call(Method::GET, "/api/v1/auth/me", None).await?;
        at.show(&me, |me| {
            format!("{} ({})\n", me["email"].as_str().unwrap_or_default(), me["role"].as_str().unwrap_or_default())
        });
        Ok(())
    })
}

fn device_line(device: &Value) -> [String; 5] {
    let text = |member: &str| device[member].as_str().unwrap_or("-").to_owned();
    let state = |relay: &Value| match relay["state"].as_bool() {
        Some(true) => "on",
        Some(false) => "off",
        None => "?",
    };
    let relays = device["relays"].as_array().map(|all| all.iter().map(state).collect::<Vec<_>>().join(" "));
    let online = if device["online"] == true { "online" } else { "offline" };
    // Nobody remembers a uid: without a name it is at least known what it is.
    let name = if device["name"].is_string() { text("name") } else { text("model") };
    [text("uid"), name, online.to_owned(), text("access"), relays.unwrap_or_default()]
}

/// Everything of a list; `path` has a query already.
pub(super) async fn pages(server: &Server, path: &str) -> Result<Vec<Value>, Ended> {
    let (mut items, mut cursor) = (Vec::new(), None);
    loop {
        let more = cursor.map_or_else(String::new, |cursor: String| format!("&cursor={cursor}"));
        let mut page = server.call(Method::GET, &format!("{path}{more}"), None).await?;
        items.append(page["items"].as_array_mut().context("the server's answer is not a list")?);
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return Ok(items);
        }
    }
}

/// Columns as wide as what is in them.
pub(super) fn table(rows: &[[String; 5]]) -> String {
    let width = |n: usize| rows.iter().map(|r| r[n].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    let mut out = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(widths) {
            out += cell;
            out += &" ".repeat(width + 2 - cell.chars().count());
        }
        out += row[4].trim_end();
        out.push('\n');
    }
    out
}

fn path_part(text: &str) -> Result<&str> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if plain { Ok(text) } else { bail!("{text:?} is not a uid: letters, digits, _ and -") }
}

/// Runs `hexa devices list | show`.
pub(super) fn devices(command: DevicesCommand) -> ExitCode {
    match command {
        DevicesCommand::List { at, all } => run(at.json, async {
            let all = if all { "&all=true" } else { "" };
            let items = pages(&at.server()?, &format!("/api/v1/devices?limit=500{all}")).await?;
            at.show(&json!({ "items": items }), |_| {
                let head = ["UID", "NAME", "STATE", "ACCESS", "RELAYS"].map(str::to_owned);
                table(&std::iter::once(head).chain(items.iter().map(device_line)).collect::<Vec<_>>())
            });
            Ok(())
        }),
        DevicesCommand::Show { uid, at } => run(at.json, async {
            let path = format!("/api/v1/devices/{}", path_part(&uid)?);
            let device = at.server()?.call(Method::GET, &path, None).await?;
            at.show(&device, |d| format!("{}\n", serde_json::to_string_pretty(d).unwrap_or_default()));
            Ok(())
        }),
    }
}

/// Runs `hexa relay`, for one relay or all.
pub(super) fn relay(args: RelayArgs) -> ExitCode {
    run(args.at.json, async {
        let uid = path_part(&args.uid)?;
        let mut body = json!({ "state": args.state == Switch::On });
        if let Some(ms) = args.for_ms {
            body["for_ms"] = ms.into();
        }
        let path = if args.relay == "all" {
            format!("/api/v1/devices/{uid}/relays")
        } else {
            format!("/api/v1/devices/{uid}/relays/{}", path_part(&args.relay)?)
        };
        let done = args.at.server()?.call(Method::POST, &path, Some(body)).await?;
        args.at.show(&done, |d| {
            let text = |member: &str| d[member].as_str().unwrap_or_default().to_owned();
            format!("{} in {} ms (command {})\n", text("status"), d["latency_ms"], text("command_id"))
        });
        Ok(())
    })
}

/// Runs `hexa keys list | rotate`.
pub(super) fn keys(command: KeysCommand) -> ExitCode {
    let (at, request) = match command {
        KeysCommand::List { at } => (at, (Method::GET, "/api/v1/admin/keys", None)),
        KeysCommand::Rotate { at_once, at } => {
            (at, (Method::POST, "/api/v1/admin/keys/rotate", Some(json!({ "at_once": at_once }))))
        }
    };
    run(at.json, async {
        let (method, path, body) = request;
        let keys = at.server()?.call(method, path, body).await?;
        at.show(&keys, |k| {
            let line = |key: &Value| {
                let text = |member: &str| key[member].as_str().unwrap_or("-").to_owned();
                format!("{}  {}  since {}  until {}\n", text("kid"), text("state"), text("since"), text("until"))
            };
            k["keys"].as_array().into_iter().flatten().map(line).collect()
        });
        Ok(())
    })
}
