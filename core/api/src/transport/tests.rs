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

fn way(peer: &str, trusted: &[&str], lines: &[(&'static str, &str)]) -> Way {
    Way::decide(Some(peer.parse().unwrap()), false, &headers(lines), &config(trusted))
}

const XFF: &str = "x-forwarded-for";
const XFP: &str = "x-forwarded-proto";
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
        ("127.0.0.1", LOOP, &[(XFF, "nonsense")], "127.0.0.1"),
        ("127.0.0.1", LOOP, &[(XFF, "1.2.3.4, nonsense")], "127.0.0.1"),
        ("127.0.0.1", LOOP, &[(XFF, "nonsense, 127.0.0.1")], "127.0.0.1"),
        ("127.0.0.1", LOOP, &[(XFF, "")], "127.0.0.1"),
        ("127.0.0.1", LOOP, &[(XFF, ",")], "127.0.0.1"),
        ("127.0.0.1", LOOP, &[(XFF, "1.2.3.4:5678")], "1.2.3.4"),
        ("127.0.0.1", LOOP, &[(XFF, "[2001:db8::7]:443")], "2001:db8::7"),
        ("127.0.0.1", LOOP, &[(XFF, "[2001:db8::7]")], "2001:db8::7"),
        ("127.0.0.1", LOOP, &[(XFF, "2001:db8::7")], "2001:db8::7"),
        ("127.0.0.1", LOOP, &[(XFF, "::ffff:1.2.3.4")], "1.2.3.4"),
        ("127.0.0.1", LOOP, &[(XFF, "unknown")], "127.0.0.1"),
        ("127.0.0.1", LOOP, &[(XFF, "1.2.3.4 5.6.7.8")], "127.0.0.1"),
        ("10.0.0.2", &["10.0.0.0/8"], &[(XFF, "1.2.3.4, 10.1.1.1")], "1.2.3.4"),
        ("10.0.0.2", &["10.0.0.2/32"], &[(XFF, "1.2.3.4, 10.1.1.1")], "10.1.1.1"),
        ("10.0.0.2", &["10.0.0.2/32"], &[(XFP, "https")], "10.0.0.2"),
    ] {
        assert_eq!(way(peer, trusted, lines).ip, Some(client.parse().unwrap()), "{peer} {trusted:?} {lines:?}");
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
        ("127.0.0.1", LOOP, &[(XFF, "1.2.3.4")], false),
        ("127.0.0.1", LOOP, &[(XFP, "https"), ("forwarded", "for=1.2.3.4;proto=http")], false),
        ("127.0.0.1", LOOP, &[(XFP, "https"), ("forwarded", "for=1.2.3.4;Proto=\"https\"")], true),
        ("127.0.0.1", LOOP, &[(XFP, "https"), ("forwarded", "for=1.2.3.4")], true),
        ("127.0.0.1", LOOP, &[("forwarded", "proto=https")], false),
    ] {
        assert_eq!(way(peer, trusted, lines).https, https, "{peer} {trusted:?} {lines:?}");
    }
}

#[test]
fn maintenance_is_a_local_peer_that_speaks_for_nobody() {
    for (peer, lines, local) in [
        ("127.0.0.1", &[("host", "localhost:8080")][..], true),
        ("127.0.0.1", &[("host", "127.0.0.1")], true),
        ("127.0.0.1", &[("host", "LOCALHOST")], true),
        ("::1", &[("host", "[::1]:8080")], true),
        ("127.0.0.1", &[("host", "hexa.example")], false),
        ("127.0.0.1", &[("host", "localhost.evil.example")], false),
        ("127.0.0.1", &[], false),
        ("127.0.0.1", &[("host", "localhost"), ("host", "hexa.example")], false),
        ("203.0.113.9", &[("host", "localhost")], false),
        ("127.0.0.1", &[("host", "localhost"), (XFF, "1.2.3.4")], false),
        ("127.0.0.1", &[("host", "localhost"), (XFF, "127.0.0.1")], false),
        ("127.0.0.1", &[("host", "localhost"), (XFP, "http")], false),
        ("127.0.0.1", &[("host", "localhost"), ("via", "1.1 caddy")], false),
        ("127.0.0.1", &[("host", "localhost"), ("forwarded", "for=1.2.3.4")], false),
        ("127.0.0.1", &[("host", "localhost"), ("x-real-ip", "1.2.3.4")], false),
    ] {
        for trusted in [&[][..], LOOP] {
            let way = way(peer, trusted, lines);
            assert_eq!(way.local, local, "{peer} {trusted:?} {lines:?}");
            assert_eq!(way.allowed(&config(trusted)), local, "{peer} {trusted:?} {lines:?}");
        }
    }
}

proptest! {
    /// Whatever a stranger sends: his address is the one that he has, and his protocol the one that he speaks.
    #[test]
    fn a_stranger_cannot_say_who_he_is(chain in "[ -~]{0,60}", proto in "[ -~]{0,20}") {
        let lines = [(XFF, chain.as_str()), (XFP, proto.as_str())];
        let seen = way("203.0.113.9", LOOP, &lines);
        prop_assert_eq!(seen, Way { ip: Some("203.0.113.9".parse().unwrap()), https: false, direct: false, local: false });
    }

    /// What the nearest proxy adds decides, whatever was there before.
    #[test]
    fn what_is_further_left_counts_for_nothing(chain in "[ -~]{0,60}") {
        let line = format!("{chain}, 198.51.100.7");
        prop_assert_eq!(way("127.0.0.1", LOOP, &[(XFF, line.as_str())]).ip, Some("198.51.100.7".parse().unwrap()));
    }
}

#[test]
fn an_old_protocol_is_a_proxy_that_nobody_configured_and_tls_to_us_is_not_tls_to_it() {
    let mut request = Request::new(());
    request.extensions_mut().insert(Peer(([127, 0, 0, 1], 9).into()));
    request.headers_mut().insert("host", HeaderValue::from_static("127.0.0.1:8080"));
    assert!(Way::of(&request, &config(&[])).local);
    *request.version_mut() = http::Version::HTTP_10;
    let way = Way::of(&request, &config(&[]));
    assert!(!way.local && !way.direct);
    let says = headers(&[(XFP, "http")]);
    assert!(!Way::decide(Some([127, 0, 0, 1].into()), true, &says, &config(LOOP)).https);
    let silent = headers(&[(XFF, "1.2.3.4")]);
    assert!(Way::decide(Some([127, 0, 0, 1].into()), true, &silent, &config(LOOP)).https);
}
