//! What a message may be, what is refused of it, and the errors that people read.

use proptest::prelude::*;

use super::nodes::Scalar;
use super::*;

fn error(text: &str) -> String {
    match Document::parse(text).map(|_| ()) {
        Err(Error::Malformed(m)) => m.message,
        other => panic!("{text}: {other:?}"),
    }
}

/// Text that is often nearly JSON.
fn nearly_json() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"a\"",
        "\"b\"",
        "\"\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\x\"",
        "1",
        "-0",
        "01",
        "1.5",
        "1.",
        "1e5",
        "-",
        "1E+",
        "true",
        "false",
        "null",
        "nul",
        " ",
        "\n",
        "\u{1}",
        "\"\u{1}\"",
        "\"",
        "é",
    ]);
    prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
}

/// Any JSON value of modest depth, without duplicate members.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        // Quarters are exact in any parser; the last bit of others is not serde_json's promise.
        any::<i32>().prop_map(|n| (f64::from(n) / 4.0).into()),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 40, 16, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::hash_map(".{0,4}", inner, 0..20)
                .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
}

fn rebuild(json: Json<'_>) -> serde_json::Value {
    match &json.node().value {
        Scalar::Null => serde_json::Value::Null,
        Scalar::Bool(b) => (*b).into(),
        Scalar::Unsigned(n) => (*n).into(),
        Scalar::Negative(n) => (*n).into(),
        Scalar::Float(n) => (*n).into(),
        Scalar::Text(text) => text.as_ref().into(),
        Scalar::Array => json.children().map(rebuild).collect(),
        Scalar::Object => {
            serde_json::Value::Object(json.children().map(|m| (m.key().to_owned(), rebuild(m))).collect())
        }
    }
}

proptest! {
    #[test]
    fn accepts_what_serde_json_accepts_but_for_depth_and_duplicates(text in nearly_json()) {
        let ours = nodes::read(&text);
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        let only_stricter = matches!(&ours, Err(e) if e.contains("twice") || e.contains("nest"));
        prop_assert!(only_stricter || ours.is_ok() == theirs.is_ok(), "{text:?}: {ours:?} {theirs:?}");
    }

    #[test]
    fn reads_back_what_serde_json_writes(value in any_json(), pretty in any::<bool>()) {
        let wrapped = serde_json::json!({ "v": value });
        let text = if pretty { serde_json::to_string_pretty(&wrapped) } else { serde_json::to_string(&wrapped) };
        let text = text.expect("serialises");
        let document = Document::parse(&text).expect("valid");
        prop_assert_eq!(rebuild(document.root()), wrapped);
    }

    #[test]
    fn any_text_ends_without_panic(text in ".{0,64}") {
        let _ = Document::parse(&text);
    }
}

#[test]
fn members_are_read_with_their_type_or_an_error_that_names_it() {
    let text = r#"{"type":"t","n":3,"b":true,"x":-1.5,"s":"q\"\u00e9","none":null,"list":[1,2]}"#;
    let document = Document::parse(text).unwrap();
    let m = document.root();
    assert_eq!((m.kind().unwrap(), m.u32("n").unwrap(), m.bool("b").unwrap()), ("t", 3, true));
    assert_eq!(m.str("s").unwrap(), "q\"é");
    assert_eq!(m.opt_str("none").unwrap(), None);
    assert_eq!(m.list("list").unwrap().count(), 2);
    assert_eq!(m.list("absent").unwrap().count(), 0);
    let says = |e: Error| match e {
        Error::Malformed(m) => m.message,
        other => panic!("{other:?}"),
    };
    assert_eq!(says(m.bool("n").unwrap_err()), "`n` must be true or false, not the number 3");
    assert_eq!(says(m.u32("x").unwrap_err()), "`x` must be a whole number from 0 to 4294967295, not the number -1.5");
    assert_eq!(says(m.str("gone").unwrap_err()), "`gone` is missing");
}

#[test]
fn depth_duplicates_and_infinities_are_refused() {
    let nested = |n: usize| format!("{{\"a\":{}1{}}}", "[".repeat(n - 1), "]".repeat(n - 1));
    assert!(Document::parse(&nested(16)).is_ok());
    assert!(error(&nested(17)).contains("16 deep"));
    assert!(error(r#"{"a":1,"\u0061":2}"#).contains("`a` is there twice"));
    assert!(error(r#"{"o":{"x":1,"x":1}}"#).contains("`x` is there twice"));
    let many = (0..40).map(|i| format!("\"k{i}\":0,")).collect::<Vec<_>>().concat();
    assert!(Document::parse(&format!("{{{many}\"z\":0}}")).is_ok());
    assert!(error(&format!("{{{many}\"k7\":0}}")).contains("`k7` is there twice"));
    assert!(error(r#"{"x":1e999}"#).contains("out of range"));
    assert!(error("[]").contains("JSON object"));
    assert!(error("{} x").contains("trailing characters"));
    assert!(error(r#"{"x":NaN}"#).contains("expected value"));
    assert!(error(r#"{"x":"#).contains("at line 1 column 5: the message ends too early"));
}

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Meter<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    phases: Vec<Phase>,
}

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Phase {
    volts: f64,
    fuse: Option<u8>,
}

fn meter(text: &str) -> std::result::Result<Meter<'_>, String> {
    parse(text).map_err(|e| match e {
        Error::Malformed(m) => m.message,
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_type_of_the_driver_is_read_and_its_errors_name_the_member() {
    let text = r#"{"type":"meter","phases":[{"volts":230.5,"new":[1]},{"volts":229,"fuse":16}],"more":{}}"#;
    let phases = vec![Phase { volts: 230.5, fuse: None }, Phase { volts: 229.0, fuse: Some(16) }];
    assert_eq!(meter(text), Ok(Meter { kind: "meter", phases }));
    for (text, expected) in [
        (r#"{"type":"m"}"#, "missing field `phases`"),
        (r#"{"type":"m","phases":1}"#, "`phases`: invalid type: integer `1`, expected a sequence"),
        (r#"{"type":"m","phases":[{"volts":1},{}]}"#, "phases[1]: missing field `volts`"),
        (r#"{"type":"m","phases":[{"volts":"x"}]}"#, "phases[0]: `volts`: invalid type: string \"x\", expected f64"),
        (
            r#"{"type":"m","phases":[{"volts":1,"fuse":300}]}"#,
            "phases[0]: `fuse`: invalid value: integer `300`, expected u8",
        ),
    ] {
        assert_eq!(meter(text), Err(expected.to_owned()), "{text}");
    }
    let long = format!(r#"{{"type":"m","phases":"{}"}}"#, "x".repeat(60_000));
    assert!(meter(&long).unwrap_err().len() < 300);
}

#[test]
fn what_serde_tolerates_is_refused_for_any_type() {
    let any = |text: &str| {
        parse::<serde_json::Value>(text).map_err(|e| match e {
            Error::Malformed(m) => m.message,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(any(r#"{"a":1,"a":2}"#), Err("the member `a` is there twice".to_owned()));
    assert_eq!(any(r#"[{"a":1}]"#), Err("a message must be a JSON object with a \"type\"".to_owned()));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(16), "]".repeat(16));
    assert_eq!(any(&deep), Err("objects and arrays may nest 16 deep at most".to_owned()));
    assert!(any(r#"{"a":1}"#).is_ok());
}
