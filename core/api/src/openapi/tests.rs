use std::collections::BTreeSet;

use super::*;

#[test]
fn every_route_has_one_entry_and_every_entry_a_route() {
    let in_table: Vec<String> = routes().iter().map(|r| format!("{} {}", r.method, r.path)).collect();
    let in_docs: Vec<String> = docs().iter().map(|d| d.route.to_owned()).collect();
    let set = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(set(&in_table), set(&in_docs));
    assert_eq!(in_table.len(), in_docs.len(), "one each");
    let ids: BTreeSet<_> = docs().iter().map(|d| d.id).collect();
    assert_eq!(ids.len(), in_docs.len(), "ids differ");
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used_and_has_an_example() {
    let text = document();
    let schemas = value()["components"]["schemas"].as_object().unwrap();
    let mut used = BTreeSet::new();
    for part in text.split("\"$ref\": \"#/components/schemas/").skip(1) {
        used.insert(part.split('"').next().unwrap());
    }
    let there: BTreeSet<_> = schemas.keys().map(String::as_str).collect();
    assert_eq!(used, there);
    for operation in value()["paths"].as_object().unwrap().values().flat_map(|m| m.as_object().unwrap().values()) {
        for content in ["/requestBody", "/responses/200", "/responses/201"] {
            let json = operation.pointer(&format!("{content}/content/application~1json"));
            if let Some(json) = json.filter(|j| j["schema"].get("type") != Some(&json!(["string", "object"]))) {
                assert!(!json["example"].is_null(), "{content} of {}", operation["operationId"]);
            }
        }
    }
}

#[test]
fn what_is_written_is_whole_and_what_is_read_is_closed() {
    let schemas = &value()["components"]["schemas"];
    assert_eq!(schemas["LoginRequest"]["additionalProperties"], false);
    assert_eq!(schemas["LoginRequest"]["required"], json!(["email", "password"]));
    let device = schemas["DeviceBody"]["required"].as_array().unwrap();
    assert!(device.contains(&json!("last_action")), "null, but there");
    assert_eq!(schemas["CommandBody"]["properties"]["command_id"]["format"], "uuid");
    let parameters = value()["paths"]["/api/v1/devices"]["get"]["parameters"].as_array().unwrap();
    let limit = parameters.iter().find(|p| p["name"] == "limit").unwrap();
    assert_eq!((&limit["schema"]["maximum"], &limit["required"]), (&json!(500), &json!(false)));
}

#[test]
fn the_page_takes_nothing_from_elsewhere() {
    let (page, policy) = page::page();
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("href=\"http"));
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
    for doc in docs() {
        assert!(page.contains(&format!("id=\"{}\"", doc.id)), "{}", doc.id);
    }
}
