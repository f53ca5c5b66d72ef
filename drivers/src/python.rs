//! How Python prints values: Ironic's messages hold them, and clients match on messages.

use serde_json::Value;

/// A string as Python's `repr` shows it.
#[must_use]
pub fn text(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut shown = String::with_capacity(text.len() + 2);
    shown.push(quote);
    for one in text.chars() {
        match one {
            '\\' => shown.push_str("\\\\"),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            _ if one == quote => {
                shown.push('\\');
                shown.push(one);
            }
            _ if one.is_ascii_control() => shown.push_str(&format!("\\x{:02x}", u32::from(one))),
            _ => shown.push(one),
        }
    }
    shown.push(quote);
    shown
}

/// A list of strings.
#[must_use]
pub fn list<T: AsRef<str>>(all: &[T]) -> String {
    let all: Vec<String> = all.iter().map(|one| text(one.as_ref())).collect();
    format!("[{}]", all.join(", "))
}

/// A value as Python's `repr` shows it. Members of objects come sorted by name.
#[must_use]
pub fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => number.to_string(),
        Value::String(string) => text(string),
        Value::Array(all) => {
            let all: Vec<String> = all.iter().map(repr).collect();
            format!("[{}]", all.join(", "))
        }
        Value::Object(all) => {
            let all: Vec<String> =
                all.iter().map(|(key, value)| format!("{}: {}", text(key), repr(value))).collect();
            format!("{{{}}}", all.join(", "))
        }
    }
}

/// A value as Python's `str` shows it: a string bare, anything else as [`repr`].
#[must_use]
pub fn str(value: &Value) -> String {
    match value {
        Value::String(string) => string.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => repr(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{list, repr, text};

    #[test]
    fn values_read_as_python_prints_them() {
        assert_eq!(text("it's"), "\"it's\"");
        assert_eq!(text("a\\b\n'\""), "'a\\\\b\\n\\'\"'");
        assert_eq!(list(&["a", "b"]), "['a', 'b']");
        let value = json!({"a": [1, 1.5, null, true], "b": "x"});
        assert_eq!(repr(&value), "{'a': [1, 1.5, None, True], 'b': 'x'}");
    }
}
