use super::*;

fn from(env: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    settings(&Values::collect(Overrides::default(), |name| env.get(name).cloned())?)
}

#[test]
fn nothing_given_is_enough() {
    let settings = from(&[]).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.command.timeout, Duration::from_secs(3));
    assert!(settings.max_connections >= 64 && !settings.production);
}

#[test]
fn a_wrong_value_names_the_setting_the_value_and_what_is_allowed() {
    for (name, value, allowed) in [
        ("COMMAND_TIMEOUT_MS", "8001", "50 to 8000"),
        ("COMMAND_TIMEOUT_MS", "3s", "whole number"),
        ("HEXA_LISTEN", "8080", "127.0.0.1:8080"),
        ("HEXA_ENV", "prod", "development, production"),
        ("PUBLIC_URL", "ftp://x", "http://"),
        ("HEXA_DURABILITY", "off", "full, normal"),
        ("REGISTRATION", "Open", "open, invite, closed"),
        ("REGISTRATION", "", "open, invite, closed"),
        ("LIMIT_INVITATIONS", "0", "1 to 100000"),
        ("NODE_ID", "Main", "1 to 64 characters of a-z, 0-9 and -"),
        ("NODE_ID", "", "1 to 64 characters of a-z, 0-9 and -"),
        ("NODE_ID", "a_b", "1 to 64 characters of a-z, 0-9 and -"),
    ] {
        let message = from(&[(name, value)]).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains(value) && message.contains(allowed), "{message}");
    }
}

#[test]
fn what_production_needs_is_refused_or_said() {
    let production = |more: &[(&str, &str)]| from(&[&[("HEXA_ENV", "production")], more].concat());
    assert!(production(&[]).unwrap().warnings.iter().any(|w| w.contains("PUBLIC_URL")));
    assert!(production(&[("PUBLIC_URL", "https://h.example")]).unwrap().warnings.is_empty());
    let alone = production(&[("ENFORCE_HTTPS", "true")]).unwrap_err().to_string();
    assert!(alone.contains("TLS_CERT_FILE") && alone.contains("TRUST_PROXY"), "{alone}");
    assert!(production(&[("ENFORCE_HTTPS", "true"), ("TRUST_PROXY", "true")]).is_ok());
    assert!(from(&[("ENFORCE_HTTPS", "true")]).is_ok(), "development may try it");
}

#[test]
fn maintenance_comes_in_by_a_file_or_by_this_machine() {
    let place =
        |value: &str| from(&[("HEXA_DATA_DIR", "/data"), ("HEXA_MAINTENANCE_LISTEN", value)]).unwrap().maintenance;
    assert_eq!(place(""), (Maintenance::File("/data/maintenance.sock".into()), false));
    assert_eq!(place("/run/hexa.sock"), (Maintenance::File("/run/hexa.sock".into()), true));
    for own in ["127.0.0.1:8081", "[::1]:8081", "127.3.2.1:0", "[::ffff:127.0.0.1]:1"] {
        assert_eq!(place(own), (Maintenance::Address(own.parse().unwrap()), true));
    }
    for other in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "localhost:1", "8081", "maintenance.sock"] {
        let said = from(&[("HEXA_MAINTENANCE_LISTEN", other)]).unwrap_err().to_string();
        assert!(said.contains("HEXA_MAINTENANCE_LISTEN") && said.contains("127.0.0.1:8081"), "{said}");
    }
}

#[test]
fn a_wrong_secret_is_not_repeated() {
    for (name, value) in
        [("JWT_SECRET", "too-short-canary"), ("DEVICE_PROVISION_KEY", "canary"), ("METRICS_TOKEN", "short-canary")]
    {
        let message = from(&[(name, value)]).unwrap_err().to_string();
        assert!(message.contains(name) && !message.contains("canary"), "{message}");
    }
}

#[test]
fn the_file_stands_below_the_environment_and_knows_no_unknown_name() {
    let dir = std::env::temp_dir().join(format!("hexa-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("hexa.toml");
    let read = |text: &str, env: &[(&str, &str)]| {
        std::fs::write(&file, text).unwrap();
        let overrides = Overrides { file: Some(file.clone()), ..Overrides::default() };
        let env: BTreeMap<_, _> = env.iter().copied().collect();
        settings(&Values::collect(overrides, |name| env.get(name).map(|v| (*v).to_owned()))?)
    };
    let found = read("command_timeout_ms = 1000\nlimit_flap = 20\n", &[("LIMIT_FLAP", "30")]).unwrap();
    assert_eq!((found.command.timeout.as_millis(), found.device.flap_per_minute), (1000, 30));
    assert!(found.effective_text().contains("COMMAND_TIMEOUT_MS = \"1000\"  (file)"));
    let message = read("comand_timeout_ms = 1000", &[]).unwrap_err().to_string();
    assert!(message.contains("comand_timeout_ms") && message.contains("command_timeout_ms"), "{message}");
    assert!(read("limit_flap = [1]", &[]).is_err());
    assert!(read("not toml", &[]).is_err());
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn effective_settings_show_no_secret() {
    let settings = from(&[("JWT_SECRET", "canary-canary-canary-canary-canary")]).unwrap();
    for text in [settings.effective_text(), settings.effective_json(), format!("{settings:?}")] {
        assert!(!text.contains("canary-canary"), "{text}");
    }
}

#[test]
fn the_clock_is_vouched_for_by_a_day() {
    let read = |value| from(&[("HEXA_BELIEVE_CLOCK", value)]);
    assert_eq!(read("").unwrap().believed_day, None);
    assert_eq!(read("2026-11-29").unwrap().believed_day, Some(jiff::civil::date(2026, 11, 29)));
    for other in ["yes", "1", "2026-02-30"] {
        let said = read(other).unwrap_err().to_string();
        assert!(said.contains("HEXA_BELIEVE_CLOCK") && said.contains("2026-11-29"), "{said}");
    }
}
