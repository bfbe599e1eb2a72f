//! `If-Match` and `If-None-Match` (RFC 9110 section 13).

use hexa_accounts::preferences::{Condition, Tags};
use hexa_platform::Error;
use http::{HeaderMap, HeaderName, header};

/// Tags in one condition.
const MAX_TAGS: usize = 16;

/// Both, as they stand in the request.
pub(crate) fn condition(headers: &HeaderMap) -> Result<Condition, Error> {
    Ok(Condition { if_match: tags(headers, &header::IF_MATCH)?, if_none_match: if_none_match(headers)? })
}

/// `If-None-Match` alone, for reads.
pub(crate) fn if_none_match(headers: &HeaderMap) -> Result<Option<Tags>, Error> {
    tags(headers, &header::IF_NONE_MATCH)
}

/// A condition that cannot be read is refused: to ignore it would be to overwrite what it protects.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Error> {
    let mut list = Vec::new();
    let mut lines = headers.get_all(name).iter().peekable();
    if lines.peek().is_none() {
        return Ok(None);
    }
    let refused = || {
        let what = format!("{name} is `*`, or at most {MAX_TAGS} entity tags in quotes, separated by commas");
        Error::validation(name.as_str(), what)
    };
    for line in lines {
        let line = line.to_str().map_err(|_| refused())?.trim();
        if line == "*" {
            return Ok(Some(Tags::Any));
        }
        read_list(line, &mut list).ok_or_else(refused)?;
    }
    if list.is_empty() || list.len() > MAX_TAGS { Err(refused()) } else { Ok(Some(Tags::List(list))) }
}

/// `"a", W/"b"`: a comma may stand inside the quotes.
fn read_list(mut rest: &str, list: &mut Vec<String>) -> Option<()> {
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(());
        }
        let opening = if rest.starts_with("W/\"") { 3 } else { 1 };
        if opening == 1 && !rest.starts_with('"') {
            return None;
        }
        let end = opening + rest[opening..].find('"')? + 1;
        list.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Option<Tags>, hexa_model::ErrorCode> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_MATCH, line.parse().unwrap());
        }
        tags(&headers, &header::IF_MATCH).map_err(|refused| refused.code)
    }

    #[test]
    fn lists_are_read_and_nonsense_is_refused() {
        let list = |tags: &[&str]| Ok(Some(Tags::List(tags.iter().map(|t| (*t).to_owned()).collect())));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[" * "]), Ok(Some(Tags::Any)));
        assert_eq!(read(&["\"a\""]), list(&["\"a\""]));
        assert_eq!(read(&["\"a,b\" ,, W/\"c\"", "\"\""]), list(&["\"a,b\"", "W/\"c\"", "\"\""]));
        for bad in ["", ",", "a", "\"a", "a\"", "\"a\" \"b\"", "w/\"a\"", "\"a\", *"] {
            assert_eq!(read(&[bad]), Err(hexa_model::ErrorCode::ValidationError), "{bad}");
        }
        assert!(read(&[&"\"a\",".repeat(17)]).is_err());
    }
}
