use proptest::prelude::*;

use super::*;

fn config(trusted: &[&str]) -> TransportConfig {
    TransportConfig { enforce_https: true, trusted_proxies: trusted.iter().map(|t| t.parse().unwrap()).collect() }
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    map
}

fn source(peer: &str, trusted: &[&str], lines: &[(&'static str, &str)]) -> RequestSource {
    RequestSource::decide(Some(peer.parse().unwrap()), false, &headers(lines), &config(trusted))
}

const XFF: &str = "x-forwarded-for";
const XFP: &str = "x-forwarded-proto";
const FWD: &str = "forwarded";
const LOOP: &[&str] = &["127.0.0.0/8", "::1/128"];

#[test]
fn the_client_is_the_rightmost_stranger() {
    for (peer, trusted, lines, client) in [
        ("203.0.113.9", &[][..], &[(XFF, "1.2.3.4")][..], "203.0.113.9"),
        ("203.0.113.9", LOOP, &[(XFF, "1.2.3.4")], "203.0.113.9"),
        ("127.0.0.1", &[], &[(XFF, "1.2.3.4")], "127.0.0.1"),
        ("127.0.0.1", LOOP, &[(XFF, "1.2.3.4")], "1.2.3.4"),
        ("::1", LOOP, &[(XFF, "1.2.3.4")], "1.2.3.4"),
        ("::ffff:127.0.0.1", LOOP, &[(XFF, "1.2.3.4")], "1.2.3.4"),
        ("127.0.0.1", LOOP, &[(XFF, "6.6.6.6, 1.2.3.4")], "1.2.3.4"),
        ("127.0.0.1", LOOP, &[(XFF, "6.6.6.6,1.2.3.4")], "1.2.3.4"),
        ("127.0.0.1", LOOP, &[(XFF, "6.6.6.6"), (XFF, "1.2.3.4")], "1.2.3.4"),
        ("127.0.0.1", LOOP, &[(XFF, "1.2.3.4, 127.0.0.1")], "1.2.3.4"),
        ("127.0.0.1", LOOP, &[(XFF, "1.2.3.4"), (XFF, "127.0.0.1")], "1.2.3.4"),
        ("127.0.0.1", LOOP, &[(XFF, "127.0.0.1")], "127.0.0.1"),
        ("127.0.0.1", LOOP, &[(XFF, "nonsense, 1.2.3.4")], "1.2.3.4"),
        ("127.0.0.1", LOOP, &[(XFF, "1.2.3.4:5678")], "1.2.3.4"),
        ("127.0.0.1", LOOP, &[(XFF, "[2001:db8::7]:443")], "2001:db8::7"),
        ("127.0.0.1", LOOP, &[(XFF, "[2001:db8::7]")], "2001:db8::7"),
        ("127.0.0.1", LOOP, &[(XFF, "2001:db8::7")], "2001:db8::7"),
        ("127.0.0.1", LOOP, &[(XFF, "::ffff:1.2.3.4")], "1.2.3.4"),
        ("10.0.0.2", &["10.0.0.0/8"], &[(XFF, "1.2.3.4, 10.1.1.1")], "1.2.3.4"),
        ("10.0.0.2", &["10.0.0.2/32"], &[(XFF, "1.2.3.4, 10.1.1.1")], "10.1.1.1"),
        ("127.0.0.1", LOOP, &[(FWD, "for=1.2.3.4")], "1.2.3.4"),
        ("127.0.0.1", LOOP, &[(FWD, "for=6.6.6.6, For=\"[2001:db8::7]:4711\";proto=https")], "2001:db8::7"),
        ("127.0.0.1", LOOP, &[(FWD, "for=1.2.3.4"), (FWD, "for=127.0.0.1;by=10.0.0.1")], "1.2.3.4"),
        // A proxy that writes the one family passes the other on as it came from the client.
        ("127.0.0.1", LOOP, &[(XFF, "1.2.3.4"), (FWD, "for=6.6.6.6")], "1.2.3.4"),
    ] {
        let source = source(peer, trusted, lines);
        assert_eq!(source.ip, Some(client.parse().unwrap()), "{peer} {trusted:?} {lines:?}");
        let named = matches!(source.standing, Standing::Proxied | Standing::Client);
        assert!(named, "{peer} {trusted:?} {lines:?}");
    }
}

#[test]
fn a_trusted_proxy_that_names_nobody_is_asked_for_health_alone() {
    for lines in [
        &[][..],
        &[("host", "localhost")],
        &[("host", "127.0.0.1:8080")],
        &[(XFP, "https")],
        &[("via", "1.1 caddy")],
        &[("x-real-ip", "1.2.3.4")],
        &[("x-forwarded-host", "hexa.example"), (XFP, "https")],
        &[(XFF, "nonsense")],
        &[(XFF, "1.2.3.4, nonsense")],
        &[(XFF, "nonsense, 127.0.0.1")],
        &[(XFF, "")],
        &[(XFF, ",")],
        &[(XFF, "unknown")],
        &[(XFF, "1.2.3.4 5.6.7.8")],
        &[(FWD, "proto=https")],
        &[(FWD, "for=unknown;proto=https")],
        &[(FWD, "for=_hidden;proto=https")],
        // Half of each family is neither.
        &[(XFP, "https"), (FWD, "for=1.2.3.4;proto=https")],
    ] {
        let source = source("127.0.0.1", LOOP, lines);
        assert_eq!((source.standing, source.https), (Standing::Unnamed, false), "{lines:?}");
        for config in [config(LOOP), TransportConfig { enforce_https: false, ..config(LOOP) }] {
            assert_eq!(source.check("/metrics", &config), Err(Refused::Unnamed), "{lines:?}");
            assert_eq!(source.check("/api/v1/auth/login", &config), Err(Refused::Unnamed), "{lines:?}");
            assert_eq!(
                (source.check("/health", &config), source.check("/ready", &config)),
                (Ok(()), Ok(())),
                "{lines:?}"
            );
        }
    }
}

#[test]
fn only_a_trusted_proxy_can_say_https_and_only_in_one_way() {
    for (peer, trusted, lines, https) in [
        ("203.0.113.9", LOOP, &[(XFP, "https")][..], false),
        ("127.0.0.1", &[][..], &[(XFP, "https")], false),
        ("127.0.0.1", LOOP, &[(XFP, "https")], true),
        ("127.0.0.1", LOOP, &[(XFP, "http")], false),
        ("127.0.0.1", LOOP, &[(XFP, "https, http")], false),
        ("127.0.0.1", LOOP, &[(XFP, "http, https")], true),
        ("127.0.0.1", LOOP, &[(XFP, "http"), (XFP, "https")], true),
        ("127.0.0.1", LOOP, &[(XFP, "https"), (XFP, "http")], false),
        ("127.0.0.1", LOOP, &[(XFP, "HTTPS")], false),
        ("127.0.0.1", LOOP, &[(XFP, "httpsx")], false),
        ("127.0.0.1", LOOP, &[(XFP, "")], false),
        ("127.0.0.1", LOOP, &[], false),
        ("127.0.0.1", LOOP, &[(XFP, "https"), (FWD, "for=1.2.3.4;proto=http")], false),
        ("127.0.0.1", LOOP, &[(XFP, "https"), (FWD, "for=1.2.3.4;Proto=\"https\"")], true),
        ("127.0.0.1", LOOP, &[(XFP, "https"), (FWD, "for=1.2.3.4")], true),
        ("127.0.0.1", LOOP, &[(FWD, "proto=https")], false),
    ] {
        let lines: Vec<_> = lines.iter().copied().chain([(XFF, "1.2.3.4")]).collect();
        assert_eq!(source(peer, trusted, &lines).https, https, "{peer} {trusted:?} {lines:?}");
    }
    for (value, https) in [
        ("for=1.2.3.4;proto=https", true),
        ("for=1.2.3.4; Proto=\"HTTPS\"", true),
        ("for=1.2.3.4;proto=http", false),
        ("for=1.2.3.4", false),
        ("for=6.6.6.6;proto=https, for=1.2.3.4;proto=http", false),
        ("for=6.6.6.6;proto=https, for=1.2.3.4", false),
    ] {
        assert_eq!(source("127.0.0.1", LOOP, &[(FWD, value)]).https, https, "{value}");
    }
}

#[test]
fn maintenance_is_this_machine_while_no_proxy_is_trusted_whatever_host_it_names() {
    for (peer, lines, own) in [
        ("127.0.0.1", &[("host", "localhost:8080")][..], true),
        ("::1", &[("host", "[::1]:8080")], true),
        ("127.0.0.1", &[("host", "hexa.example")], true),
        ("127.0.0.1", &[], true),
        ("203.0.113.9", &[("host", "localhost")], false),
        ("127.0.0.1", &[("host", "localhost"), (XFF, "1.2.3.4")], false),
        ("127.0.0.1", &[("host", "localhost"), (XFF, "127.0.0.1")], false),
        ("127.0.0.1", &[("host", "localhost"), (XFP, "http")], false),
        ("127.0.0.1", &[("host", "localhost"), ("via", "1.1 caddy")], false),
        ("127.0.0.1", &[("host", "localhost"), (FWD, "for=1.2.3.4")], false),
        ("127.0.0.1", &[("host", "localhost"), ("x-real-ip", "1.2.3.4")], false),
    ] {
        let direct = source(peer, &[], lines);
        assert_eq!(direct.is_maintenance(), own, "{peer} {lines:?}");
        assert_eq!(direct.check("/metrics", &config(&[])).is_ok(), own, "{peer} {lines:?}");
        for trusted in [LOOP, &["10.0.0.1/32"][..]] {
            let source = source(peer, trusted, lines);
            assert!(!source.is_maintenance(), "{peer} {trusted:?} {lines:?}");
            assert!(source.check("/metrics", &config(trusted)).is_err(), "{peer} {trusted:?} {lines:?}");
        }
    }
    // A container asks within itself how it is, while its proxy is elsewhere.
    let neighbour = source("127.0.0.1", &["10.0.0.1/32"], &[]);
    assert_eq!(neighbour.check("/health", &config(&["10.0.0.1/32"])), Ok(()));
    assert_eq!(neighbour.check("/api/v1/auth/me", &config(&["10.0.0.1/32"])), Err(Refused::Insecure));
}

proptest! {
    /// Whatever a stranger sends: his address is the one that he has, and his protocol the one that he speaks.
    #[test]
    fn a_stranger_cannot_say_who_he_is(chain in "[ -~]{0,60}", proto in "[ -~]{0,20}") {
        let lines = [(XFF, chain.as_str()), (XFP, proto.as_str()), (FWD, chain.as_str())];
        let seen = source("203.0.113.9", LOOP, &lines);
        let ip = Some("203.0.113.9".parse().unwrap());
        prop_assert_eq!(seen, RequestSource { ip, https: false, standing: Standing::Client });
    }

    /// What the nearest proxy adds decides, whatever was there before.
    #[test]
    fn what_is_further_left_counts_for_nothing(chain in "[ -~]{0,60}") {
        let line = format!("{chain}, 198.51.100.7");
        let seen = source("127.0.0.1", LOOP, &[(XFF, line.as_str())]);
        prop_assert_eq!(seen.ip, Some("198.51.100.7".parse().unwrap()));
        let line = format!("{chain}, for=198.51.100.7");
        prop_assert_eq!(source("127.0.0.1", LOOP, &[(FWD, line.as_str())]).ip, Some("198.51.100.7".parse().unwrap()));
    }
}

#[test]
fn an_old_protocol_is_a_proxy_that_nobody_configured_and_tls_to_us_is_not_tls_to_it() {
    let mut request = Request::new(());
    request.extensions_mut().insert(Peer(([127, 0, 0, 1], 9).into()));
    assert!(RequestSource::of(&request, &config(&[])).is_maintenance());
    *request.version_mut() = http::Version::HTTP_10;
    assert_eq!(RequestSource::of(&request, &config(&[])).standing, Standing::Client);
    let says = headers(&[(XFF, "1.2.3.4"), (XFP, "http")]);
    assert!(!RequestSource::decide(Some([127, 0, 0, 1].into()), true, &says, &config(LOOP)).https);
    let silent = headers(&[(XFF, "1.2.3.4")]);
    assert!(RequestSource::decide(Some([127, 0, 0, 1].into()), true, &silent, &config(LOOP)).https);
}

#[test]
fn the_maintenance_listener_is_maintenance_whoever_is_trusted() {
    let mut request = Request::new(());
    request.extensions_mut().insert(Peer(([127, 0, 0, 1], 9).into()));
    request.extensions_mut().insert(Maintenance { file: true });
    request.headers_mut().insert(XFF, HeaderValue::from_static("1.2.3.4"));
    let source = RequestSource::of(&request, &config(LOOP));
    assert_eq!((source.ip, source.check("/metrics", &config(LOOP))), (Some([127, 0, 0, 1].into()), Ok(())));
}
