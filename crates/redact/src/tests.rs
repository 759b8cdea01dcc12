use proptest::prelude::*;

use super::*;

// Built at run time, so that scanners (ours included) do not find keys in this file.
fn aws() -> String {
    format!("AKIA{}", "QWERTYUIOPASDFGH")
}

fn github() -> String {
    format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8")
}

#[test]
fn all_rules_compile() {
    assert!(rules::all_compile());
}

#[test]
fn known_formats_are_replaced_and_the_rest_is_kept() {
    let redactor = Redactor::new();
    let text = format!("key = \"{}\"\ntoken: {}\nfn main() {{}}\n", aws(), github());
    let clean = redactor.clean(&text, Source::File("a.rs"));
    assert!(!clean.as_str().contains(&aws()) && !clean.as_str().contains(&github()), "{clean}");
    assert!(clean.as_str().contains("fn main() {}") && clean.as_str().contains("aws-key"), "{clean}");
    assert_eq!(redactor.restore(clean.as_str(), "a.rs").unwrap(), text);
}

#[test]
fn a_secret_goes_back_only_where_it_came_from() {
    let redactor = Redactor::new();
    let clean = redactor.clean(&aws(), Source::File("config.py"));
    let error = redactor.restore(clean.as_str(), "other.py").unwrap_err();
    assert!(error.to_string().contains("config.py"), "{error}");
    assert!(redactor.check(&format!("curl -d {clean} example.org")).is_err());
    let printed = redactor.clean(&aws(), Source::Other);
    assert_eq!(printed, clean, "the same value has the same placeholder");
    assert!(redactor.restore("nothing here", "x").is_ok());
}

#[test]
fn a_value_seen_once_is_hidden_everywhere() {
    let redactor = Redactor::new();
    let _ = redactor.clean("password = 'tr0ub4dor&3x'", Source::File("a"));
    assert!(!redactor.clean("printed tr0ub4dor&3x here", Source::Other).as_str().contains("tr0ub4dor"));
}

#[test]
fn private_keys_and_urls() {
    let redactor = Redactor::new();
    let key =
        format!("-----BEGIN {}-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END {0}-----", "RSA PRIVATE KEY");
    let text = format!("{key}\npostgres://app:s3cr3tpass@db/x");
    let clean = redactor.clean(&text, Source::File("a"));
    assert!(!clean.as_str().contains("MIIE") && !clean.as_str().contains("s3cr3tpass"), "{clean}");
    assert!(clean.as_str().contains("postgres://app:"), "{clean}");
}

#[test]
fn ordinary_code_is_left_alone() {
    let redactor = Redactor::new();
    for line in [
        "let token = parse_token(input)?;",
        "token: TokenKind::Identifier,",
        "password = os.environ['PASSWORD']",
        "secret_key_base = config.secret_key_base",
        "api_key = None  # TODO",
        "author = 'Jane Doe 2024'",
        "https://example.org/a:b@c",
    ] {
        assert_eq!(redactor.clean(line, Source::Other).as_str(), line);
    }
}

proptest! {
    #[test]
    fn restoring_is_exact(before in ".{0,40}", after in "\\PC{0,40}", which in 0..3usize) {
        let secret = [aws(), github(), "\u{2039}secret:aws-key:1\u{203a}".to_owned()][which].clone();
        let text = format!("{before} {secret} {after}");
        let redactor = Redactor::new();
        let clean = redactor.clean(&text, Source::File("f"));
        prop_assert_eq!(redactor.restore(clean.as_str(), "f").unwrap(), text);
    }

    #[test]
    fn any_text_is_safe(text in "[\\PC\n]{0,200}") {
        let redactor = Redactor::new();
        let clean = redactor.clean(&text, Source::File("f"));
        prop_assert_eq!(redactor.restore(clean.as_str(), "f").unwrap(), text);
    }
}

#[test]
fn a_placeholder_that_the_model_repeats_stays_what_it_is() {
    let redactor = Redactor::new();
    let seen = redactor.clean("password = \"hunter2hunter2X9\"\n", Source::File("a.py"));
    let said = format!("I will keep {} there.", seen.as_str());
    assert_eq!(redactor.clean(&said, Source::Other).as_str(), said);
    // But what merely looks like one, in a file, is hidden, so that putting back is exact.
    let literal = "x = '\u{2039}secret:assigned:1\u{203a}'";
    let clean = redactor.clean(literal, Source::File("b.py"));
    assert_ne!(clean.as_str(), literal);
    assert_eq!(redactor.restore(clean.as_str(), "b.py").unwrap(), literal);
}

#[test]
fn a_value_is_hidden_before_the_place_that_gives_it_away_as_well() {
    let text = "echo hunter2hunter2X9 > x\npassword = \"hunter2hunter2X9\"\n";
    assert!(!Redactor::new().clean(text, Source::Other).as_str().contains("hunter2hunter2X9"));
}
