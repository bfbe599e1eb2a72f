//! A home that looks lived in: an admin, a guest, simulated devices with names, and commands that were really sent. All of
//! it is made through the API, as anybody would; a second start finds it and makes only what is missing.

use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{READY_WITHIN, Running};
use crate::http::request;

/// The name of a device and those of its relays.
type Place = (&'static str, &'static [&'static str]);

/// Devices that are online; more than these have no name.
const HOME: &[Place] = &[
    ("Kitchen ceiling", &["Spots", "Worktop"]),
    ("Garage door", &["Door"]),
    ("Living room", &["Floor lamp", "Reading lamp", "Window lights", "Television"]),
    ("Hallway ceiling", &["Ceiling"]),
    ("Bathroom", &["Mirror", "Fan"]),
    ("Garden", &["Path lights", "Terrace", "Pond pump", "Sprinkler"]),
    ("Front gate", &["Gate"]),
    ("Bedroom", &["Ceiling", "Bedside"]),
    ("Heating", &["Kitchen valve", "Bathroom valve", "Bedroom valve", "Circulation pump"]),
    ("Water heater", &["Heater"]),
];
/// Devices that were online once.
const AWAY: &[Place] = &[("Greenhouse", &["Heater", "Window"]), ("Holiday cabin", &["Heating"])];
/// What the guest may switch.
const SHARED: &str = "Garage door";
/// How often each device is switched by hand, or one of its buttons pressed, on average: its history goes on.
const TOUCHED_EVERY_S: &str = "120";
/// Commands to each device at the first start.
const COMMANDS: usize = 6;
/// Devices in one page of the list; whoever simulates more need not wait for all of them.
const PAGE: usize = 100;

/// An account of the demo.
struct Account {
    login: Value,
    token: String,
    admin: bool,
}

/// What was set up.
pub(super) struct Demo {
    address: String,
    data_dir: PathBuf,
    binary: PathBuf,
    admin: Account,
    guest: Account,
    devices: u32,
    /// The guest may switch [`SHARED`], if there is one.
    shared: bool,
}

impl Demo {
    /// Signs in, starts the devices and names them; gives what has to be stopped in the end.
    pub(super) fn start(address: &str, data_dir: &Path, binary: &Path, devices: u32) -> Result<(Self, Running)> {
        let account = |name, bootstrap| account(address, data_dir, name, bootstrap);
        let secret = fs::read_to_string(data_dir.join("secrets/bootstrap_secret")).ok();
        let (admin, guest) = (account("demo", secret)?, account("guest", None)?);
        let mut demo = Self {
            address: address.to_owned(),
            data_dir: data_dir.to_owned(),
            binary: binary.to_owned(),
            admin,
            guest,
            devices,
            shared: false,
        };
        if !demo.admin.admin {
            let dir = data_dir.display();
            println!("run: the demo user in {dir} was made before and is no admin; for one that is, delete {dir}");
        }
        demo.keep_token()?;
        let away = if devices as usize > AWAY.len() * 2 { AWAY } else { &[] };
        demo.have_been(away)?;
        let online = devices as usize - away.len();
        let mut sim = demo.simulate("sim-devices.json", HOME, online)?;
        demo.wait_online(online.min(PAGE - away.len()), &mut sim)?;
        let named = demo.name(HOME)?;
        demo.switch(&named)?;
        demo.shared = demo.share()?;
        Ok((demo, sim))
    }

    fn api(&self, account: &Account, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        request(&self.address, method, path, Some(&account.token), body)
    }

    /// As the admin, where anything but success is a failure of the demo.
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, answer) = self.api(&self.admin, method, path, body)?;
        if !(200..300).contains(&status) {
            bail!("{method} {path} was answered {status} {answer}");
        }
        Ok(answer)
    }

    fn devices(&self) -> Result<Vec<Value>> {
        let page = self.call("GET", &format!("/api/v1/devices?limit={PAGE}"), None)?;
        Ok(page["items"].as_array().cloned().unwrap_or_default())
    }

    /// A token for the lines that are printed, in a file because it outlives this session.
    fn keep_token(&self) -> Result<()> {
        let file = self.token_file();
        if let Ok(token) = fs::read_to_string(&file)
            && request(&self.address, "GET", "/api/v1/auth/me", Some(token.trim()), None)?.0 == 200
        {
            return Ok(());
        }
        let body = json!({ "name": "cargo xtask run", "scopes": ["devices:read", "devices:write", "relays:write"] });
        let made = self.call("POST", "/api/v1/auth/tokens", Some(&body))?;
        write_private(&file, made["token"].as_str().context("the answer is not a token")?)
    }

    fn token_file(&self) -> PathBuf {
        self.data_dir.join("demo-token")
    }

    fn simulate(&self, state: &str, places: &[Place], devices: usize) -> Result<Running> {
        let relays: Vec<_> = places.iter().map(|(_, relays)| relays.len().to_string()).collect();
        Running::start(
            "the simulated devices",
            Command::new(&self.binary)
                .args(["sim", "--quiet", "--server", &format!("http://{}", self.address)])
                .args(["--devices", &devices.to_string(), "--relays", &relays.join(",")])
                .args(["--input-every", TOUCHED_EVERY_S])
                .arg("--provision-key-file")
                .arg(self.data_dir.join("secrets/device_provision_key"))
                .arg("--state")
                .arg(self.data_dir.join(state))
                .env("HEXA_TOKEN", &self.admin.token),
        )
    }

    /// Devices that are switched once and then leave.
    fn have_been(&self, places: &[Place]) -> Result<()> {
        let known = self.devices()?;
        if places.iter().all(|(name, _)| known.iter().any(|d| d["name"] == *name)) {
            return Ok(());
        }
        let mut sim = self.simulate("sim-offline.json", places, places.len())?;
        self.wait_online(places.len(), &mut sim)?;
        let named = self.name(places)?;
        self.switch(&named)?;
        sim.stop();
        Ok(())
    }

    fn wait_online(&self, wanted: usize, sim: &mut Running) -> Result<()> {
        let started = Instant::now();
        loop {
            let online = self.devices()?.iter().filter(|d| d["online"] == true).count();
            if online >= wanted {
                return Ok(());
            }
            if let Some(status) = sim.child.try_wait()? {
                bail!("the simulated devices stopped ({status}); the lines above say why");
            }
            if started.elapsed() > READY_WITHIN {
                bail!("{online} of {wanted} simulated devices came online within {} s", READY_WITHIN.as_secs());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Gives each name that no device has to one without a name and with so many relays; gives the uids of these.
    fn name(&self, places: &[Place]) -> Result<Vec<(String, usize)>> {
        let devices = self.devices()?;
        let mut free: Vec<_> = devices.iter().filter(|d| d["name"].is_null() && d["online"] == true).collect();
        let mut named = Vec::new();
        for (name, relays) in places {
            let fits = |device: &&Value| device["relay_count"] == relays.len();
            let taken = devices.iter().any(|device| device["name"] == *name);
            let Some(at) = free.iter().position(fits).filter(|_| !taken) else { continue };
            let uid = free.remove(at)["uid"].as_str().unwrap_or_default().to_owned();
            let relays: Vec<_> = relays.iter().enumerate().map(|(i, n)| json!({ "index": i, "name": n })).collect();
            named.push((uid.clone(), relays.len()));
            let body = json!({ "name": name, "relays": relays });
            self.call("PATCH", &format!("/api/v1/devices/{uid}"), Some(&body))?;
        }
        Ok(named)
    }

    /// Real commands, which the devices acknowledge: each relay in turn, first on, then off, and so on.
    fn switch(&self, devices: &[(String, usize)]) -> Result<()> {
        for round in 0..COMMANDS {
            for (uid, relays) in devices {
                let path = format!("/api/v1/devices/{uid}/relays/{}", round % relays);
                self.call("POST", &path, Some(&json!({ "state": (round / relays) % 2 == 0 })))?;
            }
        }
        Ok(())
    }

    /// Lets the guest switch one device, who does so; false when the device has gone.
    fn share(&self) -> Result<bool> {
        let devices = self.devices()?;
        let Some(device) = devices.iter().find(|device| device["name"] == SHARED) else { return Ok(false) };
        let uid = device["uid"].as_str().unwrap_or_default();
        let grants = format!("/api/v1/devices/{uid}/grants");
        let email = &self.guest.login["email"];
        let given = self.call("GET", &grants, None)?;
        if given["items"].as_array().into_iter().flatten().any(|grant| grant["user"]["email"] == *email) {
            return Ok(true);
        }
        self.call("POST", &grants, Some(&json!({ "email": email, "access": "control" })))?;
        for state in [true, false] {
            let path = format!("/api/v1/devices/{uid}/relays/0");
            let (status, answer) = self.api(&self.guest, "POST", &path, Some(&json!({ "state": state })))?;
            if status != 200 {
                bail!("the guest's command was answered {status} {answer}");
            }
        }
        Ok(true)
    }

    /// What to open and try, in six lines.
    pub(super) fn print(&self) -> Result<()> {
        let devices = self.devices()?;
        let online = || devices.iter().filter(|device| device["online"] == true);
        let device = online().find(|device| device["name"] == HOME[0].0).or_else(|| online().next());
        let uid = device.and_then(|device| device["uid"].as_str()).context("no simulated device is online")?;
        let base = format!("http://{}", self.address);
        let login = |account: &Account| {
            let text = |member: &str| account.login[member].as_str().unwrap_or_default();
            format!("{} / {}", text("email"), text("password"))
        };
        let may = if self.shared { format!("who may switch {SHARED:?}") } else { "with nothing shared".to_owned() };
        let (dir, token) = (self.data_dir.display(), self.token_file());
        let (token, role) = (token.display(), if self.admin.admin { "an admin" } else { "no admin" });
        let (on, off) = if std::io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        println!(
            "\n{on}Open      {base}/dashboard{off}   ({} simulated devices; Ctrl-C stops everything)",
            self.devices
        );
        println!("Sign in   {}   ({role}; for development only, kept in {dir})", login(&self.admin));
        println!("Or as     {}   (a guest, {may})", login(&self.guest));
        println!(
            "Switch    curl -s {base}/api/v1/devices/{uid}/relays/0 -H \"authorization: Bearer $(cat {token})\" -H 'content-type: application/json' -d '{{\"state\":true}}'"
        );
        let here = std::env::current_dir()?;
        let binary = self.binary.strip_prefix(here).unwrap_or(&self.binary).display();
        println!("List      {binary} devices list --url {base} --token-file {token}");
        println!("Read      docs/README.md, and the API at {base}/api/docs");
        Ok(())
    }
}

/// Signs in with the login that is kept, or makes the account and keeps it; the first one with the secret is an admin.
fn account(address: &str, data_dir: &Path, name: &str, bootstrap: Option<String>) -> Result<Account> {
    let file = data_dir.join(format!("{name}-login.json"));
    let email = format!("{name}@hexa.local");
    let (login, path) = match fs::read_to_string(&file) {
        Ok(text) => {
            let login = serde_json::from_str::<Value>(&text).with_context(|| file.display().to_string())?;
            (login, "/api/v1/auth/login")
        }
        Err(_) => (json!({ "email": email, "password": random_password()? }), "/api/v1/auth/register"),
    };
    let mut body = login.clone();
    if let Some(secret) = bootstrap.filter(|_| path.ends_with("register")) {
        body["bootstrap_secret"] = secret.trim().into();
    }
    let (status, answer) = request(address, "POST", path, None, Some(&body))?;
    let Some(token) = answer["access_token"].as_str() else {
        bail!("{email} cannot sign in ({status} {answer}); delete {} to start anew", data_dir.display());
    };
    write_private(&file, &login.to_string())?;
    Ok(Account { login, token: token.to_owned(), admin: answer["user"]["role"] == "admin" })
}

fn write_private(file: &Path, text: &str) -> Result<()> {
    let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    writeln!(out, "{text}").with_context(|| file.display().to_string())
}

fn random_password() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 12];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    use std::fmt::Write as _;
    Ok(bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    }))
}
