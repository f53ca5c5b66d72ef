//! Secrets in JSON fields, shown as `******` (api.md §3.2).

mod scan;

use std::borrow::Cow;

use serde_json::Value;

pub(crate) use scan::copy_object;

/// What a secret is shown as.
pub(crate) const MASK: &str = "******";

/// A key that contains one of these, in any case, holds a secret.
const SECRET_WORDS: &[&str] = &[
    "adminpass",
    "admin_pass",
    "passwd",
    "password",
    "new_pass",
    "secret",
    "sys_pswd",
    "token",
    "configdrive",
    "encrypted_key",
    "private_key",
    "passphrase",
    "hex_kg_key",
    "snmp_auth_key",
    "snmp_priv_key",
    "snmp_community",
    "ssh_key_contents",
    "deploy_key",
    "credential",
];

/// What is under these keys is hidden whatever it is.
const WHOLE: &[&str] = &["configdrive", "image_url"];

/// Query arguments of a URL that give access to what it names.
const SIGNATURES: &[&str] = &["temp_url_sig=", "x-amz-signature=", "x-goog-signature=", "sig="];

/// Masks the JSON object in `text`. Borrows it when there is nothing to hide; a text that is not JSON is never shown.
#[must_use]
pub(crate) fn mask_text(text: &str) -> Cow<'_, str> {
    let mut shown = Vec::new();
    match copy_object(text, true, &mut shown) {
        Some(false) => Cow::Borrowed(text),
        Some(true) => match String::from_utf8(shown) {
            Ok(masked) => Cow::Owned(masked),
            Err(_) => Cow::Borrowed("{}"),
        },
        None => Cow::Borrowed("{}"),
    }
}

/// Masks every secret below `value`; whether there was one.
pub(crate) fn mask(value: &mut Value) -> bool {
    match value {
        Value::Object(map) => {
            let mut any = false;
            for (key, inner) in map.iter_mut() {
                let maskable = is_secret_key(key)
                    && !matches!(inner, Value::Object(_) | Value::Bool(_) | Value::Null)
                    || WHOLE.contains(&key.as_str()) && !inner.is_null();
                if maskable {
                    *inner = Value::String(MASK.to_owned());
                    any = true;
                } else {
                    any |= mask(inner);
                }
            }
            any
        }
        Value::Array(items) => items.iter_mut().fold(false, |any, item| mask(item) | any),
        Value::String(text) if grants_access(text) => {
            *text = MASK.to_owned();
            true
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A client that writes back what it was shown does not overwrite secrets with stars: where `new` has `******`, the
/// secret of `old` stays.
pub(crate) fn keep_hidden(old: &Value, new: &mut Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new.iter_mut() {
                if let Some(old) = old.get(key) {
                    keep_hidden(old, value);
                }
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            old.iter().zip(new.iter_mut()).for_each(|(old, new)| keep_hidden(old, new));
        }
        (old, new) if *new == Value::String(MASK.to_owned()) => *new = old.clone(),
        _ => {}
    }
}

fn is_secret_key(key: &str) -> bool {
    let key = key.as_bytes();
    let begins_word = |pair: &[u8]| {
        let (first, second) = (pair[0] | 0x20, pair[1] | 0x20);
        first.is_ascii_lowercase()
            && second.is_ascii_lowercase()
            && BEGINNINGS[usize::from(first - b'a')] >> (second - b'a') & 1 == 1
    };
    key.windows(2).enumerate().any(|(at, pair)| {
        begins_word(pair)
            && SECRET_WORDS.iter().any(|word| {
                let part = key.get(at..at + word.len());
                part.is_some_and(|part| part.eq_ignore_ascii_case(word.as_bytes()))
            })
    })
}

/// With which two letters the secret words begin: a row for the first one, a bit for the second.
const BEGINNINGS: [u32; 26] = {
    let mut rows = [0; 26];
    let mut at = 0;
    while at < SECRET_WORDS.len() {
        let word = SECRET_WORDS[at].as_bytes();
        rows[(word[0] - b'a') as usize] |= 1 << (word[1] - b'a');
        at += 1;
    }
    rows
};

/// Whether a string is a URL that carries a signature or a password.
fn grants_access(text: &str) -> bool {
    text.match_indices("://").any(|(at, mark)| url_grants_access(&text[at + mark.len()..]))
}

/// As [`grants_access`], of what follows a `://`.
fn url_grants_access(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
        return true;
    }
    rest.split_once('?').is_some_and(|(_, query)| {
        query.split('&').any(|pair| SIGNATURES.iter().any(|name| pair.to_ascii_lowercase().starts_with(name)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stars_that_are_written_back_leave_the_secret_as_it_was() {
        let old = json!({"ipmi_password": "hunter2", "deep": {"token": "t"}, "plain": "a"});
        let mut new =
            json!({"ipmi_password": MASK, "deep": {"token": MASK}, "plain": "b", "other_secret": MASK});
        keep_hidden(&old, &mut new);
        let kept =
            json!({"ipmi_password": "hunter2", "deep": {"token": "t"}, "plain": "b", "other_secret": MASK});
        assert_eq!(new, kept);
    }

    #[test]
    fn a_second_url_in_a_text_is_looked_at_too() {
        assert!(grants_access("http://a/ http://user:pw@h"));
        assert!(!grants_access("http://a/ http://b/?c=d"));
    }

    #[test]
    fn secrets_of_every_kind_are_hidden_and_nothing_else() {
        let mut value = json!({
            "ipmi_address": "10.0.0.7", "ipmi_password": "hunter2", "ipmi_hex_kg_key": "00ff", "snmp_community": "c",
            "Redfish_Password": 7, "nested": {"api_secret": "x", "plain": "y"}, "list": [{"auth_token": "t"}],
            "configdrive": {"meta_data": {"a": 1}}, "image_source": "http://h/i?temp_url_sig=abc&temp_url_expires=1",
            "other": "http://user:pw@h/i", "user_only": "http://user@h/i", "agent_secret_token_pregenerated": false,
            "image_checksum": "abc",
        });
        assert!(mask(&mut value));
        assert_eq!(
            value,
            json!({
                "ipmi_address": "10.0.0.7", "ipmi_password": MASK, "ipmi_hex_kg_key": MASK, "snmp_community": MASK,
                "Redfish_Password": MASK, "nested": {"api_secret": MASK, "plain": "y"}, "list": [{"auth_token": MASK}],
                "configdrive": MASK, "image_source": MASK, "other": MASK, "user_only": "http://user@h/i",
                "agent_secret_token_pregenerated": false, "image_checksum": "abc",
            })
        );
    }

    #[test]
    fn text_without_secrets_is_not_copied_and_broken_text_is_not_shown() {
        assert!(matches!(mask_text(r#"{"a":1}"#), Cow::Borrowed(r#"{"a":1}"#)));
        assert_eq!(mask_text(r#"{"password":"x"#), "{}");
        assert_eq!(mask_text(r#"{"password":"x"}"#), r#"{"password":"******"}"#);
    }
}
