//! The document for people: one page, made here, without scripts and without anything from elsewhere.

use std::fmt::Write as _;
use std::sync::OnceLock;

use base64::Engine as _;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The page, and the policy under which its style is the only thing that a browser takes from it.
pub(super) fn page() -> (&'static str, &'static str) {
    static PAGE: OnceLock<(String, String)> = OnceLock::new();
    let (page, policy) = PAGE.get_or_init(|| {
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
        let policy = format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; frame-ancestors 'none'");
        (render(super::value()), policy)
    });
    (page, policy)
}

const STYLE: &str = include_str!("page.css");

/// Everything of the document is text here.
fn text(value: &str) -> String {
    value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text in which `code` is marked.
fn prose(value: &str) -> String {
    let mut out = String::new();
    for (n, part) in text(value).split('`').enumerate() {
        let marks = if n % 2 == 1 { ["<code>", "</code>"] } else { [""; 2] };
        out.extend([marks[0], part, marks[1]]);
    }
    out
}

fn str_of<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

fn render(document: &Value) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Hexa API</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<header><h1>Hexa API</h1><p>{}</p>\
         <p>Version {} · <a href=\"openapi.json\">openapi.json</a></p></header>\n",
        prose(str_of(&document["info"], "description")),
        text(str_of(&document["info"], "version")),
    );
    out += "<nav aria-label=\"Contents\"><ul>\n";
    for tag in document["tags"].as_array().into_iter().flatten() {
        let name = text(str_of(tag, "name"));
        let _ = writeln!(out, "<li><a href=\"#{name}\">{name}</a></li>");
    }
    out += "<li><a href=\"#schemas\">Schemas</a></li>\n</ul></nav>\n<main>\n";
    for tag in document["tags"].as_array().into_iter().flatten() {
        let name = str_of(tag, "name");
        let what = prose(str_of(tag, "description"));
        let _ = writeln!(out, "<section><h2 id=\"{0}\">{0}</h2><p>{what}</p>", text(name));
        for (path, methods) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                if operation["tags"][0] == name {
                    operation_of(&mut out, document, (method, path), operation);
                }
            }
        }
        out += "</section>\n";
    }
    out += "<section><h2 id=\"schemas\">Schemas</h2>\n";
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let json = serde_json::to_string_pretty(schema).unwrap_or_default();
        let _ = writeln!(
            out,
            "<details id=\"schema-{0}\"><summary>{0}</summary><pre tabindex=\"0\">{1}</pre></details>",
            text(name),
            text(&json)
        );
    }
    out += "</section>\n</main>\n</body>\n</html>\n";
    out
}

fn operation_of(out: &mut String, document: &Value, (method, path): (&str, &str), operation: &Value) {
    let id = text(str_of(operation, "operationId"));
    let _ = writeln!(
        out,
        "<details id=\"{id}\"><summary><span class=\"method {method}\">{}</span> <code>{}</code> {}</summary><p>{}</p>",
        method.to_uppercase(),
        text(path),
        prose(str_of(operation, "summary")),
        prose(str_of(operation, "description")),
    );
    let parameters = operation["parameters"].as_array();
    if let Some(parameters) = parameters {
        *out += "<table><caption>Parameters</caption><tr><th>name</th><th>in</th><th>what</th></tr>\n";
        for parameter in parameters {
            let mut what = prose(str_of(parameter, "description"));
            let _ = write!(what, " <code>{}</code>", text(&parameter["schema"].to_string()));
            let (name, place) = (text(str_of(parameter, "name")), text(str_of(parameter, "in")));
            let _ = writeln!(out, "<tr><td><code>{name}</code></td><td>{place}</td><td>{what}</td></tr>");
        }
        *out += "</table>\n";
    }
    if let Some(body) = operation.pointer("/requestBody/content/application~1json") {
        let _ = writeln!(out, "<h3>Body{}</h3>{}", reference(&body["schema"]), example(&body["example"]));
    }
    *out += "<table><caption>Answers</caption><tr><th>status</th><th>what</th></tr>\n";
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let shared = response["$ref"].as_str().and_then(|r| document.pointer(r.trim_start_matches('#')));
        let response = shared.unwrap_or(response);
        let json = &response["content"]["application/json"];
        let mut what = prose(str_of(response, "description"));
        what += &reference(&json["schema"]);
        if status.starts_with('2') {
            what += &example(&json["example"]);
        }
        let _ = writeln!(out, "<tr><td>{status}</td><td>{what}</td></tr>");
    }
    *out += "</table></details>\n";
}

fn reference(schema: &Value) -> String {
    let of = schema["$ref"].as_str().or_else(|| schema.pointer("/properties/items/items/$ref")?.as_str());
    let name = of.and_then(|r| r.rsplit('/').next()).filter(|n| *n != "Error");
    name.map_or_else(String::new, |n| format!(" <a href=\"#schema-{0}\">{0}</a>", text(n)))
}

fn example(value: &Value) -> String {
    if value.is_null() {
        return String::new();
    }
    format!("<pre tabindex=\"0\">{}</pre>", text(&serde_json::to_string_pretty(value).unwrap_or_default()))
}
