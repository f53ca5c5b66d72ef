//! The word that a client probably meant.

/// The known word that is most like `word`, if any is like it.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&word, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness > 0.82)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// A sentence to append, with a blank before it; nothing when no known word is like it.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // what nobody typed by hand is not worth the search
    let short = Some(word).filter(|word| word.len() <= 64);
    let found = short.and_then(|word| nearest(word, known));
    found.map(|name| format!(" Did you mean '{name}'?")).unwrap_or_default()
}

/// The hint after a text that has no full stop.
pub(crate) fn ended(hint: String) -> String {
    if hint.is_empty() { hint } else { format!(".{hint}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["provision_state", "power_state", "driver", "owner"];
        assert_eq!(did_you_mean("provison_state", known), " Did you mean 'provision_state'?");
        assert_eq!(did_you_mean("Drivers", known), " Did you mean 'driver'?");
        assert_eq!(did_you_mean("zzz", known), "");
        assert_eq!(did_you_mean(&"driver".repeat(1000), known), "");
    }
}
