//! The command line of `hexa sim`, and the checked plan that comes out of it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::value_parser;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::model::Faults;

/// The server's flap limit (`LIMIT_FLAP`) unless it is raised.
const DEFAULT_FLAP_PER_MINUTE: f64 = 15.0;

/// Simulated devices against a server. They provision, connect, acknowledge, report, misbehave as told, and reconnect.
#[derive(Debug, clap::Args)]
pub(crate) struct SimArgs {
    /// The server's own plain address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// How many devices to simulate
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u32).range(1..=100_000))]
    devices: u32,
    /// Relays of each device; several numbers go round, such as 1,1,4
    #[arg(long, value_name = "N", default_value = "4", value_delimiter = ',', value_parser = value_parser!(u16).range(1..=64))]
    relays: Vec<u16>,
    /// Time from a command to its ack
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = value_parser!(u64).range(0..=60_000))]
    ack_delay_ms: u64,
    /// Up to so much more, drawn for each ack
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = value_parser!(u64).range(0..=60_000))]
    jitter: u64,
    /// Switch, but lose the ack of this part of the commands
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = value_parser!(u8).range(0..=100))]
    drop_ack: u8,
    /// Send the ack of this part of the commands twice
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = value_parser!(u8).range(0..=100))]
    duplicate_ack: u8,
    /// Hang up and come back in this time on average
    #[arg(long, value_name = "SECONDS")]
    reconnect_every: Option<f64>,
    /// Press a button, or switch by hand, in this time on average
    #[arg(long, value_name = "SECONDS")]
    input_every: Option<f64>,
    /// Replays a run; drawn and printed if absent
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The provisioning key of the server
    #[arg(long, value_name = "KEY", env = "DEVICE_PROVISION_KEY", hide_env_values = true)]
    provision_key: Option<SecretString>,
    /// File with the provisioning key; wins over the key itself
    #[arg(long, value_name = "FILE")]
    provision_key_file: Option<PathBuf>,
    /// Access token of a user: claims each device for that user
    #[arg(long, value_name = "TOKEN", env = "HEXA_TOKEN", hide_env_values = true)]
    user_token: Option<SecretString>,
    /// Keeps the devices' credentials (mode 0600) and uses them again on the next start
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Ends by itself; otherwise SIGINT or SIGTERM ends it
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// JSON report at the end, into a file or (-) to stdout
    #[arg(long, value_name = "FILE|-")]
    report: Option<String>,
    /// No progress, only errors and the report
    #[arg(long)]
    quiet: bool,
}

/// What is to be done, checked.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) server: Url,
    pub(super) devices: usize,
    relays: Vec<u16>,
    pub(super) faults: Faults,
    pub(super) reconnect_every: Option<Duration>,
    pub(super) input_every: Option<Duration>,
    pub(super) seed: u64,
    pub(super) provision_key: Option<SecretString>,
    pub(super) user_token: Option<SecretString>,
    pub(super) state: Option<PathBuf>,
    pub(super) duration: Option<Duration>,
    pub(super) report: Option<String>,
    pub(super) quiet: bool,
    /// Worth saying before the start.
    pub(super) notes: Vec<String>,
}

impl Plan {
    /// How many relays device `index` is registered with.
    pub(super) fn relays(&self, index: usize) -> u16 {
        self.relays[index % self.relays.len()]
    }
    /// The same for people.
    pub(super) fn relays_in_words(&self) -> String {
        self.relays.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl SimArgs {
    /// Checks what depends on more than one value.
    pub(super) fn plan(self) -> Result<Plan> {
        let server = server(&self.server)?;
        let provision_key = self.provision_key()?;
        ensure!(
            provision_key.is_some() || self.state.as_ref().is_some_and(|file| file.exists()),
            "devices need a provisioning key: give --provision-key-file, --provision-key or DEVICE_PROVISION_KEY \
             (the server keeps one in secrets/device_provision_key of its data directory)"
        );
        let reconnect_every = seconds("--reconnect-every", self.reconnect_every)?;
        let mut notes = Vec::new();
        if let Some(every) = reconnect_every {
            let per_minute = 60.0 / every.as_secs_f64();
            if per_minute * 1.5 > DEFAULT_FLAP_PER_MINUTE {
                notes.push(format!(
                    "--reconnect-every {} connects each device about {:.0} times a minute: start the server with \
                     LIMIT_FLAP={:.0} or more, otherwise it answers 429 and the devices wait 5 minutes",
                    every.as_secs_f64(),
                    per_minute,
                    (per_minute * 2.0).ceil(),
                ));
            }
        }
        let seed = match self.seed {
            Some(seed) => seed,
            None => getrandom::u64().context("the system gives no random numbers; use --seed")?,
        };
        Ok(Plan {
            server,
            devices: self.devices as usize,
            relays: self.relays,
            faults: Faults {
                ack_delay_ms: self.ack_delay_ms,
                jitter_ms: self.jitter,
                drop_percent: self.drop_ack,
                duplicate_percent: self.duplicate_ack,
            },
            reconnect_every,
            input_every: seconds("--input-every", self.input_every)?,
            seed,
            provision_key,
            user_token: self.user_token.filter(|t| !t.expose_secret().trim().is_empty()),
            state: self.state,
            duration: seconds("--duration", self.duration)?,
            report: self.report,
            quiet: self.quiet,
            notes,
        })
    }

    fn provision_key(&self) -> Result<Option<SecretString>> {
        let text = match (&self.provision_key_file, &self.provision_key) {
            (Some(file), _) => std::fs::read_to_string(file)
                .with_context(|| format!("--provision-key-file: cannot read {}", file.display()))?,
            (None, Some(key)) => key.expose_secret().to_owned(),
            (None, None) => return Ok(None),
        };
        // While keys rotate the setting holds two; either is good.
        let first = text.split(',').next().unwrap_or_default().trim();
        ensure!(!first.is_empty(), "the provisioning key is empty");
        Ok(Some(first.into()))
    }
}

fn server(text: &str) -> Result<Url> {
    let url =
        Url::parse(text).with_context(|| format!("--server {text}: give an address such as http://127.0.0.1:8080"))?;
    if url.scheme() != "http" {
        bail!("--server {text}: simulated devices speak plain http; give the server's own address, not its proxy's");
    }
    let bare = url.path() == "/" && url.query().is_none() && url.username().is_empty() && url.host().is_some();
    ensure!(bare, "--server {text}: give scheme, host and port only, such as http://127.0.0.1:8080");
    Ok(url)
}

fn seconds(name: &str, value: Option<f64>) -> Result<Option<Duration>> {
    let Some(value) = value else { return Ok(None) };
    ensure!((0.01..=31_536_000.0).contains(&value), "{name} {value}: give seconds, from 0.01 to a year");
    Ok(Some(Duration::from_secs_f64(value)))
}

/// The address from which device `index` calls a server on this machine: a single one has only 28,000 ports.
pub(super) fn local_address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 2 + (index % 8) as u8)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{SimArgs, local_address};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        sim: SimArgs,
    }

    fn plan(args: &[&str]) -> Result<super::Plan, String> {
        let key: &[&str] = if args.contains(&"--provision-key") { &[] } else { &["--provision-key", "a-key"] };
        let all = ["sim"].iter().chain(key).chain(args);
        let cli = Cli::try_parse_from(all).map_err(|e| e.to_string())?;
        cli.sim.plan().map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn the_defaults_are_three_devices_of_four_relays_on_this_machine() {
        let plan = plan(&[]).unwrap();
        assert_eq!((plan.devices, plan.relays(2), plan.server.as_str()), (3, 4, "http://127.0.0.1:8080/"));
        assert!(plan.notes.is_empty() && plan.duration.is_none());
    }

    #[test]
    fn several_numbers_of_relays_go_round() {
        let plan = plan(&["--relays", "1,2,8"]).unwrap();
        assert_eq!((0..5).map(|i| plan.relays(i)).collect::<Vec<_>>(), [1, 2, 8, 1, 2]);
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        for (args, named) in [
            (["--devices", "0"], "--devices"),
            (["--relays", "65"], "--relays"),
            (["--relays", "4,0"], "--relays"),
            (["--relays", ""], "--relays"),
            (["--drop-ack", "101"], "--drop-ack"),
            (["--duplicate-ack", "x"], "--duplicate-ack"),
            (["--jitter", "60001"], "--jitter"),
            (["--reconnect-every", "0"], "--reconnect-every"),
            (["--input-every", "NaN"], "--input-every"),
            (["--duration", "1e9"], "--duration"),
            (["--server", "https://hexa.example"], "--server"),
            (["--server", "http://127.0.0.1:8080/api"], "--server"),
            (["--server", "nonsense"], "--server"),
            (["--provision-key-file", "/nowhere/key"], "--provision-key-file"),
        ] {
            let error = plan(&args).expect_err(named);
            assert!(error.contains(named), "{args:?}: {error}");
        }
    }

    #[test]
    fn a_run_without_key_and_credentials_says_where_a_key_is() {
        let Ok(cli) = Cli::try_parse_from(["sim"]) else { panic!("no argument is required by itself") };
        let without_key = SimArgs { provision_key: None, ..cli.sim };
        assert!(without_key.plan().unwrap_err().to_string().contains("secrets/device_provision_key"));
    }

    #[test]
    fn reconnecting_faster_than_the_flap_limit_says_what_to_raise() {
        assert!(plan(&["--reconnect-every", "2"]).unwrap().notes[0].contains("LIMIT_FLAP=60"));
        assert!(plan(&["--reconnect-every", "30"]).unwrap().notes.is_empty());
    }

    #[test]
    fn the_first_of_two_keys_is_used_and_none_is_shown() {
        let plan = plan(&["--provision-key", "new-key-0123456789,old-key"]).unwrap();
        let key = plan.provision_key.as_ref().map(secrecy::ExposeSecret::expose_secret);
        assert_eq!(key, Some("new-key-0123456789"));
        assert!(!format!("{plan:?}").contains("new-key"));
    }

    #[test]
    fn devices_spread_over_eight_loopback_addresses() {
        let mut all: Vec<_> = (0..100).map(|i| local_address(i).to_string()).collect();
        all.sort();
        all.dedup();
        assert_eq!((all.len(), all[0].as_str(), all[7].as_str()), (8, "127.0.0.2", "127.0.0.9"));
    }
}
