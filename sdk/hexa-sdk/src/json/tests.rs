//! The scanner against serde_json, and the errors that people read.

use proptest::prelude::*;

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
        Scalar::Number(digits) => serde_json::from_str(digits).expect("checked grammar"),
        Scalar::Text(text) => text.as_ref().into(),
        Scalar::Array => json.children().map(rebuild).collect(),
        Scalar::Object => {
            serde_json::Value::Object(json.children().map(|m| (m.key().to_owned(), rebuild(m))).collect())
        }
    }
}

proptest! {
    #[test]
    fn accepts_exactly_what_serde_json_accepts(text in nearly_json()) {
        let ours = scan::scan(&text);
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        let only_stricter = matches!(&ours, Err(e) if e.contains("twice") || e.contains("nest"));
        // serde_json converts numbers at once; here the grammar comes first and the range at the first use.
        let range = matches!(&theirs, Err(e) if e.to_string().contains("out of range"));
        prop_assert!(only_stricter || range || ours.is_ok() == theirs.is_ok(), "{text:?}: {ours:?} {theirs:?}");
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
    assert_eq!((m.type_().unwrap(), m.u32("n").unwrap(), m.bool("b").unwrap()), ("t", 3, true));
    assert!((m.f64("x").unwrap() + 1.5).abs() < f64::EPSILON);
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
    let document = Document::parse(r#"{"x":1e999}"#).unwrap();
    assert!(document.root().f64("x").is_err());
    assert!(error("[]").contains("JSON object"));
    assert!(error("{} x").contains("nothing may follow"));
    assert!(error(r#"{"x":NaN}"#).contains("expected a value"));
}
