//! Names that people give: what is taken as one, and the form in which names are searched and ordered.
//!
//! What is shown must be what is found: [`take`] brings a name into one form (NFC) and refuses what nobody can see or
//! what shows a text otherwise than it is; [`fold`] takes away what does not matter when names are compared.

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};
use icu_properties::props::{
    CanonicalCombiningClass, DefaultIgnorableCodePoint, ExtendedPictographic, GeneralCategory, JoiningType, Script,
};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicode_segmentation::UnicodeSegmentation;

/// A name has at most so many characters as a reader counts them: extended grapheme clusters of UAX 29.
pub const MAX_CHARACTERS: usize = 64;
/// And at most so many bytes as UTF-8: 64 of the longest emoji fit, a letter under hundreds of marks does not.
pub const MAX_BYTES: usize = 2_048;
/// The version of [`fold`]: raised when it gives anything else than before for any text, which a newer version of
/// Unicode does. Stores keep folded names and make them anew when this has changed.
pub const FOLDING: u32 = 1;

const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';
/// The emoji that tags make the flag of a region.
const FLAG: char = '\u{1f3f4}';
const END_OF_TAGS: char = '\u{e007f}';

/// The regions that have a flag of tags (emoji-sequences.txt of UTS 51): any other would hide what it says.
const REGIONS: [&str; 3] = ["gbeng\u{7f}", "gbsct\u{7f}", "gbwls\u{7f}"];

/// Scripts in which joiners change what is read.
const WITH_JOINERS: [Script; 25] = [
    Script::Adlam,
    Script::Arabic,
    Script::Balinese,
    Script::Bengali,
    Script::Chakma,
    Script::Devanagari,
    Script::Gujarati,
    Script::Gurmukhi,
    Script::HanifiRohingya,
    Script::Javanese,
    Script::Kannada,
    Script::Khmer,
    Script::Malayalam,
    Script::Mandaic,
    Script::Mongolian,
    Script::Myanmar,
    Script::Nko,
    Script::Oriya,
    Script::PhagsPa,
    Script::Sinhala,
    Script::Syriac,
    Script::Tamil,
    Script::Telugu,
    Script::Tibetan,
    Script::Tirhuta,
];

/// Those of them whose letters join.
const CURSIVE: [Script; 8] = [
    Script::Adlam,
    Script::Arabic,
    Script::HanifiRohingya,
    Script::Mandaic,
    Script::Mongolian,
    Script::Nko,
    Script::PhagsPa,
    Script::Syriac,
];

/// Why a text is not taken as a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has so many characters.
    #[error("a name has at most {MAX_CHARACTERS} characters; this one has {0}")]
    TooLong(usize),
    /// It has so many bytes.
    #[error("a name has at most {MAX_BYTES} bytes as UTF-8; this one has {0}")]
    TooManyBytes(usize),
    /// A line end, a tab, or the like.
    #[error("a name has no control characters; leave out U+{:04X}", *.0 as u32)]
    Control(char),
    /// It changes the direction in which the text around it is shown.
    #[error("a name has no characters that change the direction of writing; leave out U+{:04X}", *.0 as u32)]
    Direction(char),
    /// It is not seen, and changes nothing that is seen beside it.
    #[error("a name has no invisible characters; leave out U+{:04X}", *.0 as u32)]
    Invisible(char),
    /// Nothing is there that it could be a mark of: it would be shown on whatever stands before the name.
    #[error("a name has no mark without a letter before it; leave out U+{:04X}", *.0 as u32)]
    Mark(char),
    /// Unicode promises never to give it a meaning.
    #[error("a name has characters of Unicode only; leave out U+{:04X}", *.0 as u32)]
    NoCharacter(char),
}

/// The name that somebody gave: without white space around it and in Unicode's form NFC; none when nothing is left.
///
/// # Errors
/// [`NameError`]: too long, or with a character that is not seen as what it is.
pub fn take(text: &str) -> Result<Option<String>, NameError> {
    let text = text.trim();
    // Before anything is made of it: NFC makes no text shorter than a third.
    if text.len() > 3 * MAX_BYTES {
        return Err(NameError::TooManyBytes(text.len()));
    }
    let name = clean(text)?;
    let characters = characters(&name);
    if characters > MAX_CHARACTERS {
        return Err(NameError::TooLong(characters));
    }
    if name.len() > MAX_BYTES {
        return Err(NameError::TooManyBytes(name.len()));
    }
    Ok(Some(name).filter(|name| !name.is_empty()))
}

/// A text in the form NFC, of any length.
///
/// # Errors
/// [`NameError`]: a character that is not seen as what it is.
pub fn clean(text: &str) -> Result<String, NameError> {
    let text = composed(text);
    let letters: Vec<char> = text.chars().collect();
    for (at, letter) in letters.iter().enumerate() {
        check(*letter, &letters[..at], &letters[at + 1..])?;
    }
    Ok(text)
}

/// A text in the form NFC, whatever is in it.
pub fn composed(text: &str) -> String {
    ComposingNormalizer::new_nfc().normalize(text).into_owned()
}

/// How many characters a reader counts.
pub fn characters(text: &str) -> usize {
    text.graphemes(true).count()
}

/// The form in which texts are compared, searched and ordered: full case folding and NFKC, without what is not seen.
///
/// No language is asked: `ß` is `ss`, both sigmas are one, `İ` is `i` with a dot above (which is not `i`), and `ı`
/// stays what it is. A folded text folds to itself.
pub fn fold(text: &str) -> String {
    let (composed, cases) = (ComposingNormalizer::new_nfkc(), CaseMapper::new());
    let mut folded = seen(&DecomposingNormalizer::new_nfd().normalize(text));
    // Once is not enough where a compatible form unfolds to capital letters (Unicode 3.13, D146).
    for _ in 0..2 {
        folded = seen(&composed.normalize(&cases.fold_string(&folded)));
    }
    folded
}

/// Without what is not seen.
fn seen(text: &str) -> String {
    text.chars().filter(|c| !is_unseen(*c)).collect()
}

fn is_unseen(letter: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(letter)
}

fn is_emoji(letter: char) -> bool {
    CodePointSetData::new::<ExtendedPictographic>().contains(letter)
}

/// What shows itself only by what it makes of others, but for the number signs of some scripts, which are seen.
fn is_format(letter: char) -> bool {
    let numbers = matches!(letter, '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{110bd}' | '\u{110cd}');
    CodePointMapData::<GeneralCategory>::new().get(letter) == GeneralCategory::Format && !numbers
}

fn is_mark(letter: char) -> bool {
    let kind = CodePointMapData::<GeneralCategory>::new().get(letter);
    matches!(kind, GeneralCategory::NonspacingMark | GeneralCategory::SpacingMark | GeneralCategory::EnclosingMark)
}

fn is_tag(letter: char) -> bool {
    ('\u{e0020}'..=END_OF_TAGS).contains(&letter)
}

/// Chooses one of several forms of the character before it.
fn is_variation(letter: char) -> bool {
    matches!(letter, '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Whether the variation chooses among forms that the letter may have: an emoji is shown as one or as text, ideographs and
/// the letters of some scripts have shapes. Behind any other letter nothing is seen of it.
fn has_forms(variation: char, letter: char) -> bool {
    match variation {
        '\u{fe0e}' | '\u{fe0f}' => is_emoji(letter) || matches!(letter, '0'..='9' | '#' | '*'),
        '\u{180b}'..='\u{180f}' => script(letter) == Some(Script::Mongolian),
        _ => CodePointMapData::<Script>::new().get(letter) == Script::Han || script(letter).is_some(),
    }
}

fn script(letter: char) -> Option<Script> {
    let script = CodePointMapData::<Script>::new().get(letter);
    WITH_JOINERS.contains(&script).then_some(script)
}

fn check(letter: char, before: &[char], after: &[char]) -> Result<(), NameError> {
    match letter {
        '\u{2028}' | '\u{2029}' => Err(NameError::Control(letter)),
        _ if letter.is_control() => Err(NameError::Control(letter)),
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}' => {
            Err(NameError::Direction(letter))
        }
        '\u{fdd0}'..='\u{fdef}' => Err(NameError::NoCharacter(letter)),
        _ if letter as u32 & 0xfffe == 0xfffe => Err(NameError::NoCharacter(letter)),
        // A Braille cell without a dot.
        '\u{2800}' => Err(NameError::Invisible(letter)),
        _ if is_format(letter) && !is_unseen(letter) => Err(NameError::Invisible(letter)),
        _ if is_mark(letter) && !is_unseen(letter) && before.last().is_none_or(|l| l.is_whitespace()) => {
            Err(NameError::Mark(letter))
        }
        _ if is_unseen(letter) && !is_needed(letter, before, after) => Err(NameError::Invisible(letter)),
        _ => Ok(()),
    }
}

/// Whether what is not seen itself changes what is seen beside it.
fn is_needed(letter: char, before: &[char], after: &[char]) -> bool {
    let (last, next) = (before.last().copied(), after.first().copied());
    match letter {
        _ if is_variation(letter) => last.is_some_and(|l| has_forms(letter, l)),
        ZERO_WIDTH_JOINER if joins_emoji(before, next) => true,
        ZERO_WIDTH_JOINER | ZERO_WIDTH_NON_JOINER => {
            joins_letters(before, next) && changes_joining(letter, before, after)
        }
        _ if is_tag(letter) => {
            let start = before.iter().rposition(|l| !is_tag(*l) || *l == END_OF_TAGS);
            let end = after.iter().position(|l| !is_tag(*l)).unwrap_or(after.len());
            let tags = start.map_or(before, |start| &before[start + 1..]).iter().chain([&letter]).chain(&after[..end]);
            let region: Option<String> = tags.map(|t| char::from_u32(*t as u32 & 0x7f)).collect();
            let region = region.unwrap_or_default();
            // What follows the end of one flag belongs to the next.
            let region = region.split_inclusive('\u{7f}').next().unwrap_or_default();
            start.is_some_and(|start| before[start] == FLAG) && REGIONS.contains(&region)
        }
        _ => false,
    }
}

/// A family, a profession: emoji that are shown as one.
fn joins_emoji(before: &[char], next: Option<char>) -> bool {
    let with_colour = |l: char| is_variation(l) || ('\u{1f3fb}'..='\u{1f3ff}').contains(&l);
    let last = before.iter().rev().find(|l| !with_colour(**l));
    last.is_some_and(|l| is_emoji(*l)) && next.is_some_and(is_emoji)
}

/// Whether a joiner changes how the letters around it are joined, where the script joins its letters at all (RFC 5892,
/// A.1): a non-joiner parts two that would be, a joiner joins one that would not be. Where it does not, a joiner chooses
/// another form of a sign.
fn changes_joining(joiner: char, before: &[char], after: &[char]) -> bool {
    let kind = |letter: &&char| CodePointMapData::<JoiningType>::new().get(**letter);
    let seen = |letter: &&char| kind(letter) != JoiningType::Transparent;
    let (last, next) = (before.iter().rev().find(seen), after.iter().find(seen));
    let script = last.map(|l| CodePointMapData::<Script>::new().get(*l));
    if !script.is_some_and(|script| CURSIVE.contains(&script)) && !last.is_some_and(|l| l.is_numeric()) {
        return true;
    }
    let left = last.is_some_and(|l| matches!(kind(&l), JoiningType::DualJoining | JoiningType::LeftJoining));
    let right = next.is_some_and(|l| matches!(kind(&l), JoiningType::DualJoining | JoiningType::RightJoining));
    if joiner == ZERO_WIDTH_JOINER { left != right } else { left && right }
}

/// Between letters of one script that needs joiners, and behind a sign that takes a vowel away.
fn joins_letters(before: &[char], next: Option<char>) -> bool {
    let Some(of) = before.iter().rev().find(|l| !is_mark(**l)).and_then(|l| script(*l)) else { return false };
    let virama =
        |l: &char| CodePointMapData::<CanonicalCombiningClass>::new().get(*l) == CanonicalCombiningClass::Virama;
    before.last().is_some_and(virama) || next.and_then(script) == Some(of)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails with the place and the value")]

    use super::*;

    fn taken(text: &str) -> String {
        take(text).unwrap_or_else(|e| panic!("{text:?}: {e}")).unwrap_or_default()
    }

    #[test]
    fn a_name_is_trimmed_and_has_one_form() {
        for (given, name) in [
            ("Lamp ", "Lamp"),
            ("\u{3000}\u{a0}Lamp\n", "Lamp"),
            ("Ku\u{308}che", "K\u{fc}che"),
            ("Ame\u{301}lie", "Am\u{e9}lie"),
            ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"),
            ("a/b#c+d", "a/b#c+d"),
            ("=1+1", "=1+1"),
            ("<img src=x>", "<img src=x>"),
            ("100 % _ \\", "100 % _ \\"),
        ] {
            assert_eq!(taken(given), name);
        }
        for nothing in ["", " ", "\u{2003}\t"] {
            assert_eq!(take(nothing), Ok(None), "{nothing:?}");
        }
    }

    #[test]
    fn what_nobody_sees_as_it_is_is_refused() {
        for (text, expected) in [
            ("a\u{7}b", NameError::Control('\u{7}')),
            ("a\tb", NameError::Control('\t')),
            ("a\u{0}b", NameError::Control('\0')),
            ("a\u{9b}b", NameError::Control('\u{9b}')),
            ("a\u{2028}b", NameError::Control('\u{2028}')),
            ("\u{202e}gnp.exe", NameError::Direction('\u{202e}')),
            ("a\u{200f}b", NameError::Direction('\u{200f}')),
            ("a\u{2067}b", NameError::Direction('\u{2067}')),
            ("a\u{61c}b", NameError::Direction('\u{61c}')),
            ("a\u{200b}b", NameError::Invisible('\u{200b}')),
            ("Lamp\u{200b}", NameError::Invisible('\u{200b}')),
            ("\u{feff}Lamp", NameError::Invisible('\u{feff}')),
            ("so\u{ad}ft", NameError::Invisible('\u{ad}')),
            ("a\u{2060}b", NameError::Invisible('\u{2060}')),
            ("\u{3164}", NameError::Invisible('\u{3164}')),
            ("a\u{34f}b", NameError::Invisible('\u{34f}')),
            ("a\u{fffa}b", NameError::Invisible('\u{fffa}')),
            // Joiners where nothing is joined.
            ("a\u{200d}b", NameError::Invisible('\u{200d}')),
            ("a\u{200c}b", NameError::Invisible('\u{200c}')),
            ("\u{200d}", NameError::Invisible('\u{200d}')),
            ("👩\u{200d}", NameError::Invisible('\u{200d}')),
            ("👩\u{200d}a", NameError::Invisible('\u{200d}')),
            ("\u{645}\u{6cc}\u{200c}", NameError::Invisible('\u{200c}')),
            ("\u{645}\u{200c}\u{200c}\u{6cc}", NameError::Invisible('\u{200c}')),
            // A form of nothing, and tags that are no flag.
            ("\u{fe0f}a", NameError::Invisible('\u{fe0f}')),
            ("a\u{fe0f}\u{fe0f}", NameError::Invisible('\u{fe0f}')),
            ("a\u{e0061}\u{e007f}", NameError::Invisible('\u{e0061}')),
            ("🏴\u{e0067}", NameError::Invisible('\u{e0067}')),
            ("a\u{fe0f}b", NameError::Invisible('\u{fe0f}')),
            ("a\u{e0100}b", NameError::Invisible('\u{e0100}')),
            ("\u{2800}", NameError::Invisible('\u{2800}')),
            // Behind a letter that joins nothing on its left, and before one that joins nothing on its right.
            ("\u{62f}\u{200c}\u{645}", NameError::Invisible('\u{200c}')),
            ("\u{645}\u{200c}\u{621}", NameError::Invisible('\u{200c}')),
            ("\u{661}\u{200c}\u{662}", NameError::Invisible('\u{200c}')),
            ("\u{661}\u{200d}\u{662}", NameError::Invisible('\u{200d}')),
            ("\u{621}\u{200c}\u{621}", NameError::Invisible('\u{200c}')),
            ("\u{628}\u{200d}\u{628}", NameError::Invisible('\u{200d}')),
            ("\u{712}\u{70f}\u{712}", NameError::Invisible('\u{70f}')),
            ("a\u{13430}b", NameError::Invisible('\u{13430}')),
            ("\u{301}", NameError::Mark('\u{301}')),
            ("\u{301}Lamp", NameError::Mark('\u{301}')),
            ("Lamp \u{20dd}", NameError::Mark('\u{20dd}')),
            ("🏴\u{e0068}\u{e0069}\u{e0064}\u{e007f}", NameError::Invisible('\u{e0068}')),
            ("a\u{fffe}b", NameError::NoCharacter('\u{fffe}')),
            ("a\u{fdd0}b", NameError::NoCharacter('\u{fdd0}')),
        ] {
            let found = take(text).expect_err(text);
            assert_eq!(found, expected, "{text:?}");
            let (NameError::Control(c)
            | NameError::Direction(c)
            | NameError::Invisible(c)
            | NameError::Mark(c)
            | NameError::NoCharacter(c)) = found
            else {
                panic!("{found}")
            };
            assert!(found.to_string().ends_with(&format!("U+{:04X}", c as u32)), "{found}");
        }
    }

    #[test]
    fn joiners_stay_where_they_are_read() {
        for name in [
            "👨\u{200d}👩\u{200d}👧\u{200d}👦",
            "👩🏽\u{200d}🚒",
            "❤\u{fe0f}\u{200d}🔥",
            "🏳\u{fe0f}\u{200d}🌈",
            "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
            "1\u{fe0f}\u{20e3}",
            // Persian, with a joiner that keeps two letters apart.
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
            // Hindi, Bengali, Sinhala; Malayalam ends in one.
            "\u{915}\u{94d}\u{200d}\u{937}",
            "\u{9b0}\u{200d}\u{9cd}\u{9af}\u{9be}\u{9ac}",
            "\u{dc1}\u{dca}\u{200d}\u{dbb}\u{dd3}",
            "\u{d05}\u{d35}\u{d28}\u{d4d}\u{200d}",
            // Japanese names choose forms.
            "\u{845b}\u{e0100}",
        ] {
            assert_eq!(taken(name), name);
        }
    }

    #[test]
    fn lengths_are_those_that_a_reader_counts() {
        let family = "👨\u{200d}👩\u{200d}👧\u{200d}👦";
        for one in ["a", "ü", "u\u{308}\u{301}", family, "🇩🇪", "\u{915}\u{94d}\u{937}"] {
            taken(&one.repeat(MAX_CHARACTERS));
            assert_eq!(take(&one.repeat(MAX_CHARACTERS + 1)), Err(NameError::TooLong(MAX_CHARACTERS + 1)), "{one}");
        }
        let tower = format!("a{}", "\u{308}".repeat(MAX_BYTES));
        assert_eq!(tower.graphemes(true).count(), 1);
        assert!(matches!(take(&tower), Err(NameError::TooManyBytes(_))));
        assert!(matches!(take(&"a".repeat(1 << 20)), Err(NameError::TooManyBytes(_))));
        // Spaces around it do not count.
        taken(&format!("{}{}", " ".repeat(1 << 20), "a".repeat(MAX_CHARACTERS)));
    }

    #[test]
    fn what_is_one_to_a_reader_folds_to_one() {
        for same in [
            &["Öfen", "öfen", "ÖFEN", "O\u{308}fen", "o\u{308}FEN"][..],
            &["Straße", "STRASSE", "strasse", "STRA\u{1e9e}E"],
            &["ΣΟΦΟΣ", "σοφος", "σοφο\u{3c3}", "Σοφος"],
            &["Ｌａｍｐ １", "lamp 1", "LAMP\u{a0}1"],
            &["ﬁre", "FIRE", "fire"],
            &["Гараж", "ГАРАЖ", "гараж"],
            &["İstanbul", "i\u{307}stanbul", "I\u{307}STANBUL"],
            &["❤", "❤\u{fe0f}"],
            &["Å", "\u{212b}", "a\u{30a}"],
            &["ᾳ", "αι", "ΑΙ", "\u{1fbc}"],
        ] {
            for text in same {
                assert_eq!(fold(text), fold(same[0]), "{text} and {}", same[0]);
            }
        }
        for (one, other) in [("Küche", "Kuche"), ("İstanbul", "istanbul"), ("ı", "i"), ("100%", "100_")] {
            assert_ne!(fold(one), fold(other));
        }
        assert_eq!((fold("I"), fold("ı"), fold("\u{200d}")), ("i".into(), "ı".into(), String::new()));
    }

    #[test]
    fn a_fold_folds_to_itself_and_is_the_one_that_stores_keep() {
        let mut all = 0xcbf2_9ce4_8422_2325_u64;
        for letter in '\0'..=char::MAX {
            let folded = fold(&letter.to_string());
            assert_eq!(fold(&folded), folded, "{letter:?}");
            assert!(!folded.chars().any(is_unseen), "{letter:?}");
            // FNV-1a, which is the same in every version of Rust.
            for byte in folded.bytes().chain([0xff]) {
                all = (all ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        // Where letters have cases, with marks that come together with them.
        for letter in ('\0'..'\u{3000}').chain('\u{a640}'..'\u{abff}').chain('\u{fb00}'..'\u{ffff}') {
            for text in [format!("a{letter}\u{345}\u{308}"), format!("\u{3b1}\u{345}{letter}")] {
                let folded = fold(&text);
                assert_eq!(fold(&folded), folded, "{text:?}");
            }
        }
        assert_eq!(
            all, 0xfbd5_4ef9_dad8_958c,
            "fold() gives something else than before: raise FOLDING, and put this number here"
        );
    }
}
