//! Masking in one pass over the text of an object: nothing is built, and nothing is shown that is not JSON.

use super::{MASK, WHOLE, grants_access, is_secret_key};

/// How deep objects and arrays may lie in each other, as in serde_json.
const DEEPEST: usize = 127;

/// Writes the JSON object in `text` to `out`, with its secrets masked if `hide`; whether there was one. `None`, and
/// nothing written: the text is no JSON object.
pub(crate) fn copy_object(text: &str, hide: bool, out: &mut Vec<u8>) -> Option<bool> {
    if text == "{}" {
        out.extend_from_slice(b"{}");
        return Some(false);
    }
    let begun = out.len();
    let mut scan = Scan { text, bytes: text.as_bytes(), at: 0, copied: 0, any: false, out };
    let whole = scan.whole(hide);
    let any = scan.any;
    if whole.is_none() {
        out.truncate(begun);
    }
    whole.map(|()| any)
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Everything before this place is in `out` already.
    copied: usize,
    any: bool,
    out: &'a mut Vec<u8>,
}

impl<'a> Scan<'a> {
    fn whole(&mut self, hide: bool) -> Option<()> {
        self.space();
        (self.peek()? == b'{').then_some(())?;
        self.value(hide, DEEPEST)?;
        self.space();
        (self.at == self.bytes.len()).then_some(())?;
        self.out.extend_from_slice(&self.bytes[self.copied..]);
        Some(())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Stars in place of everything from `from` to here.
    fn hide_since(&mut self, from: usize) {
        self.out.extend_from_slice(&self.bytes[self.copied..from]);
        self.out.push(b'"');
        self.out.extend_from_slice(MASK.as_bytes());
        self.out.push(b'"');
        self.copied = self.at;
        self.any = true;
    }

    fn value(&mut self, hide: bool, depth: usize) -> Option<()> {
        match self.peek()? {
            b'{' => self.object(hide, depth.checked_sub(1)?),
            b'[' => self.array(hide, depth.checked_sub(1)?),
            b'"' => {
                let from = self.at;
                let raw = self.string()?;
                if hide && raw.contains(':') && in_words(raw, grants_access)? {
                    self.hide_since(from);
                }
                Some(())
            }
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number(),
        }
    }

    fn object(&mut self, hide: bool, depth: usize) -> Option<()> {
        self.take(b'{')?;
        self.space();
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            let key = self.string()?;
            self.space();
            self.take(b':')?;
            self.space();
            let first = self.peek()?;
            let secret = hide
                && (!matches!(first, b'{' | b't' | b'f' | b'n') && in_words(key, is_secret_key)?
                    || first != b'n' && in_words(key, |key| WHOLE.contains(&key))?);
            let from = self.at;
            self.value(hide && !secret, depth)?;
            if secret {
                self.hide_since(from);
            }
            self.space();
            if self.take(b',').is_none() {
                return self.take(b'}');
            }
            self.space();
        }
    }

    fn array(&mut self, hide: bool, depth: usize) -> Option<()> {
        self.take(b'[')?;
        self.space();
        if self.take(b']').is_some() {
            return Some(());
        }
        loop {
            self.value(hide, depth)?;
            self.space();
            if self.take(b',').is_none() {
                return self.take(b']');
            }
            self.space();
        }
    }

    /// A string as it is spelt, without its quotes.
    fn string(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let from = self.at;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    self.at += 1;
                    match self.peek()? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
                        b'u' => {
                            let digits = self.bytes.get(self.at + 1..self.at + 5)?;
                            digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                            self.at += 5;
                        }
                        _ => return None,
                    }
                }
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
        let raw = self.text.get(from..self.at)?;
        self.at += 1;
        Some(raw)
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.bytes[self.at..].starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }
}

/// Asks about a string what it says and not how it is spelt: `\\u0070assword` is a password too.
fn in_words(raw: &str, ask: impl FnOnce(&str) -> bool) -> Option<bool> {
    if !raw.contains('\\') {
        return Some(ask(raw));
    }
    let meant: String = serde_json::from_str(&format!("\"{raw}\"")).ok()?;
    Some(ask(&meant))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mask::mask;

    fn copied(text: &str, hide: bool) -> Option<(bool, String)> {
        let mut out = b"before".to_vec();
        let any = copy_object(text, hide, &mut out);
        let out = String::from_utf8(out).expect("text");
        let rest = out.strip_prefix("before").expect("what was there stays").to_owned();
        assert!(any.is_some() || rest.is_empty());
        any.map(|any| (any, rest))
    }

    #[test]
    fn the_text_is_masked_as_the_value_is() {
        for mut value in [
            json!({}),
            json!({"a": [1, -2.5e3, true, null, {"b": "c\n\u{1}"}], "é": "ü"}),
            json!({"password": "x", "token": 7, "secret": ["a", "b"], "my_token": null, "secrets": {"plain": 1, "password": ""}}),
            json!({"agent_secret_token_pregenerated": true, "configdrive": {"a": "b"}, "image_url": ["a"], "Image_Url": "b"}),
            json!({"image_url": null, "configdrive": false, "urls": ["http://u:p@h/", "http://h/?sig=1", "http://u@h/"]}),
            json!({"text": "see http://a/ http://u:p@h and \"quotes\"", "deep": {"deep": [[{"snmp_community": 1}]]}}),
            json!({"pa\"ssword": "kept", "pass\"\\password": "hidden", "ssh_key_contents": "-----\nx"}),
        ] {
            let text = value.to_string();
            assert_eq!(copied(&text, false), Some((false, text.clone())), "{text}");
            let any = mask(&mut value);
            assert_eq!(copied(&text, true), Some((any, value.to_string())), "{text}");
        }
    }

    #[test]
    fn a_secret_is_found_however_it_is_spelt() {
        let (any, shown) =
            copied(r#" { "\u0070assword" : "x" , "u":"http:\/\/a:b@h", "PassWord":"y" } "#, true)
                .expect("JSON");
        assert!(any);
        assert_eq!(shown, r#" { "\u0070assword" : "******" , "u":"******", "PassWord":"******" } "#);
    }

    #[test]
    fn what_is_no_object_is_not_copied() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(126), "]".repeat(126));
        assert!(copied(&deep, true).is_some() && serde_json::from_str::<Value>(&deep).is_ok());
        let deeper = format!("{{\"a\":{}1{}}}", "[".repeat(127), "]".repeat(127));
        for text in [
            "",
            " ",
            "[]",
            "1",
            "\"a\"",
            "{",
            "{}}",
            "{} x",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":-}",
            "{\"a\":1e}",
            "{\"a\":tru}",
            "{\"a\":nul",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":[1,]}",
            "{\"a\":[1 2]}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":\"b}",
            &deeper,
        ] {
            assert!(serde_json::from_str::<serde_json::Map<String, Value>>(text).is_err(), "{text}");
            assert_eq!(copied(text, true), None, "{text}");
            assert_eq!(copied(text, false), None, "{text}");
        }
    }
}
