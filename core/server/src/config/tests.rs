use super::*;

fn from(env: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    settings(&Values::collect(Overrides::default(), |name| env.get(name).cloned())?)
}

#[test]
fn nothing_given_is_enough() {
    let settings = from(&[]).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.relay.timeout, Duration::from_secs(3));
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
    ] {
        let message = from(&[(name, value)]).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains(value) && message.contains(allowed), "{message}");
    }
}

#[test]
fn a_wrong_secret_is_not_repeated() {
    for (name, value) in [("JWT_SECRET", "too-short-canary"), ("DEVICE_PROVISION_KEY", "canary")] {
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
    assert_eq!((found.relay.timeout.as_millis(), found.device.flap_per_minute), (1000, 30));
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
