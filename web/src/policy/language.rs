//! The language that policies are written in: `role:x`, `rule:x`, `attribute:%(target)s`, `@`, `!`, `and`, `or`, `not`,
//! parentheses. What cannot be understood is an error when it is read, not a silent refusal when it is asked.

use std::collections::HashMap;

/// What a check is asked about: the attributes of the caller and of the target.
pub(crate) trait Facts {
    /// Whether the caller has this role, in any case.
    fn has_role(&self, role: &str) -> bool;
    /// An attribute of the caller; `None` when it is not set or there is none of that name.
    fn caller(&self, name: &str) -> Option<&str>;
    /// An attribute of the target, such as `node.owner`.
    fn target(&self, name: &str) -> Option<&str>;
}

/// A check that can be asked. Rules are referred to by their place in the list they were read into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// `@`
    Always,
    /// `!`
    Never,
    /// `role:x`
    Role(Template),
    /// `rule:x`
    Rule(usize),
    /// `'word':%(target)s`
    Literal(String, Template),
    /// `attribute:%(target)s`
    Attribute(String, Template),
    /// `not x`
    Not(Box<Check>),
    /// `x and y`
    All(Vec<Check>),
    /// `x or y`
    Any(Vec<Check>),
}

/// Text with `%(name)s` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(String),
}

/// Why a text is no check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCheck {
    /// A word that is neither a check nor an operator.
    #[error(
        "'{0}' is not a check; checks look like role:admin, rule:name, project_id:%(node.owner)s, @ or !"
    )]
    Word(String),
    /// Words in an order that means nothing.
    #[error("an operator or a parenthesis has nothing to work on; combine checks with and, or, not and ( )")]
    Order,
    /// `%` without `(name)s`.
    #[error("'{0}' has a % that is not of the form %(name)s; write %% for the sign itself")]
    Template(String),
    /// `rule:x` where there is no x.
    #[error("rule:{0} refers to a rule that there is not")]
    NoRule(String),
    /// Checks of other services.
    #[error("'{0}' would ask another service; such checks are not supported, decide by roles and projects")]
    Remote(String),
    /// Parentheses and nots in parentheses and nots.
    #[error("it is nested deeper than {DEEPEST} levels")]
    Deep,
}

/// How deep parentheses and `not` may go.
const DEEPEST: usize = 32;

impl Template {
    fn parse(text: &str) -> Result<Template, BadCheck> {
        let wrong = || BadCheck::Template(text.to_owned());
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            let mut plain = before.to_owned();
            if let Some(after) = after.strip_prefix('%') {
                plain.push('%');
                rest = after;
            } else {
                let (name, after) =
                    after.strip_prefix('(').and_then(|inner| inner.split_once(")s")).ok_or_else(wrong)?;
                if name.is_empty() {
                    return Err(wrong());
                }
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Variable(name.to_owned()));
                rest = after;
            }
            if !plain.is_empty() {
                pieces.push(Piece::Text(plain));
            }
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Template(pieces))
    }

    /// The text with the target's values; `None` when one of them is not set.
    fn expand(&self, facts: &dyn Facts) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Variable(name) => {
                    text.push_str(facts.target(name).or_else(|| facts.caller(name))?);
                }
            }
        }
        Some(text)
    }

    /// Whether it is exactly this word, without variables.
    fn is(&self, word: &str) -> bool {
        matches!(self.0.as_slice(), [Piece::Text(text)] if text == word)
    }
}

impl Check {
    /// Reads a check; `rules` are the places of those that it may refer to.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str, rules: &HashMap<String, usize>) -> Result<Check, BadCheck> {
        let tokens = tokens(text);
        if tokens.is_empty() {
            return Ok(Check::Always);
        }
        let mut reader = Reader { tokens: &tokens, rules, depth: 0 };
        let check = reader.any()?;
        if reader.tokens.is_empty() { Ok(check) } else { Err(BadCheck::Order) }
    }

    /// Whether it holds; `all` are the rules that it may refer to.
    pub(crate) fn holds(&self, facts: &dyn Facts, all: &[Check]) -> bool {
        match self {
            Check::Always => true,
            Check::Never => false,
            Check::Role(role) => role.expand(facts).is_some_and(|role| facts.has_role(&role)),
            Check::Rule(place) => all[*place].holds(facts, all),
            Check::Literal(left, right) => right.expand(facts).is_some_and(|right| right == *left),
            Check::Attribute(name, right) => match facts.caller(name) {
                Some(left) => right.expand(facts).is_some_and(|right| right == left),
                // what is not set equals the word None, and never something of a target that is not set either
                None => right.is("None"),
            },
            Check::Not(inner) => !inner.holds(facts, all),
            Check::All(inner) => inner.iter().all(|check| check.holds(facts, all)),
            Check::Any(inner) => inner.iter().any(|check| check.holds(facts, all)),
        }
    }

    /// The attributes of callers that it asks for.
    pub(crate) fn attributes<'a>(&'a self, found: &mut Vec<&'a str>) {
        match self {
            Check::Attribute(name, _) => found.push(name),
            Check::Not(inner) => inner.attributes(found),
            Check::All(inner) | Check::Any(inner) => inner.iter().for_each(|check| check.attributes(found)),
            Check::Always | Check::Never | Check::Role(_) | Check::Rule(_) | Check::Literal(_, _) => {}
        }
    }

    /// The rules that it refers to.
    pub(crate) fn refers_to(&self, found: &mut Vec<usize>) {
        match self {
            Check::Rule(place) => found.push(*place),
            Check::Not(inner) => inner.refers_to(found),
            Check::All(inner) | Check::Any(inner) => inner.iter().for_each(|check| check.refers_to(found)),
            Check::Always | Check::Never | Check::Role(_) | Check::Literal(_, _) | Check::Attribute(_, _) => {
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Open,
    Close,
    And,
    Or,
    Not,
    Check(&'a str),
}

/// Words, with the parentheses at their ends apart: `%(name)s` never begins or ends with one.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    for word in text.split_whitespace() {
        let inner = word.trim_start_matches('(');
        found.extend(std::iter::repeat_n(Token::Open, word.len() - inner.len()));
        let clean = inner.trim_end_matches(')');
        match clean.to_ascii_lowercase().as_str() {
            "" => {}
            "and" => found.push(Token::And),
            "or" => found.push(Token::Or),
            "not" => found.push(Token::Not),
            _ => found.push(Token::Check(clean)),
        }
        found.extend(std::iter::repeat_n(Token::Close, inner.len() - clean.len()));
    }
    found
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    rules: &'a HashMap<String, usize>,
    depth: usize,
}

impl Reader<'_> {
    fn take(&mut self, wanted: Token<'_>) -> bool {
        let there = self.tokens.first() == Some(&wanted);
        if there {
            self.tokens = &self.tokens[1..];
        }
        there
    }

    fn any(&mut self) -> Result<Check, BadCheck> {
        let mut checks = vec![self.all()?];
        while self.take(Token::Or) {
            checks.push(self.all()?);
        }
        Ok(if checks.len() == 1 { checks.remove(0) } else { Check::Any(checks) })
    }

    fn all(&mut self) -> Result<Check, BadCheck> {
        let mut checks = vec![self.one()?];
        while self.take(Token::And) {
            checks.push(self.one()?);
        }
        Ok(if checks.len() == 1 { checks.remove(0) } else { Check::All(checks) })
    }

    fn one(&mut self) -> Result<Check, BadCheck> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(BadCheck::Deep);
        }
        let check = self.one_inside();
        self.depth -= 1;
        check
    }

    fn one_inside(&mut self) -> Result<Check, BadCheck> {
        if self.take(Token::Not) {
            return Ok(Check::Not(Box::new(self.one()?)));
        }
        if self.take(Token::Open) {
            let inner = self.any()?;
            return if self.take(Token::Close) { Ok(inner) } else { Err(BadCheck::Order) };
        }
        let Some(Token::Check(word)) = self.tokens.first() else { return Err(BadCheck::Order) };
        self.tokens = &self.tokens[1..];
        self.word(word)
    }

    fn word(&self, word: &str) -> Result<Check, BadCheck> {
        if word == "@" {
            return Ok(Check::Always);
        }
        if word == "!" {
            return Ok(Check::Never);
        }
        let (kind, right) = word.split_once(':').ok_or_else(|| BadCheck::Word(word.to_owned()))?;
        match kind {
            "rule" => {
                let place = self.rules.get(right).ok_or_else(|| BadCheck::NoRule(right.to_owned()))?;
                Ok(Check::Rule(*place))
            }
            "role" => Ok(Check::Role(Template::parse(right)?)),
            "http" | "https" => Err(BadCheck::Remote(word.to_owned())),
            "" => Err(BadCheck::Word(word.to_owned())),
            _ => {
                let right = Template::parse(right)?;
                Ok(match literal(kind) {
                    Some(left) => Check::Literal(left.to_owned(), right),
                    None => Check::Attribute(kind.to_owned(), right),
                })
            }
        }
    }
}

/// `'text'`, a number, or one of True, False and None.
fn literal(kind: &str) -> Option<&str> {
    for quote in ['\'', '"'] {
        if let Some(inner) = kind.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return Some(inner);
        }
    }
    let plain = matches!(kind, "True" | "False" | "None") || kind.bytes().all(|b| b.is_ascii_digit());
    plain.then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Somebody;

    impl Facts for Somebody {
        fn has_role(&self, role: &str) -> bool {
            ["member", "reader"].iter().any(|own| own.eq_ignore_ascii_case(role))
        }
        fn caller(&self, name: &str) -> Option<&str> {
            match name {
                "project_id" => Some("p1"),
                "user_id" => Some("u1"),
                _ => None,
            }
        }
        fn target(&self, name: &str) -> Option<&str> {
            match name {
                "node.owner" => Some("p1"),
                "node.lessee" => Some("p2"),
                _ => None,
            }
        }
    }

    fn asked(text: &str) -> bool {
        let rules = HashMap::from([("yes".to_owned(), 0), ("no".to_owned(), 1)]);
        let all = [Check::Always, Check::Never];
        Check::parse(text, &rules).unwrap_or_else(|error| panic!("{text}: {error}")).holds(&Somebody, &all)
    }

    #[test]
    fn the_language_means_what_oslo_policy_means() {
        for (text, expected) in [
            ("", true),
            ("@", true),
            ("!", false),
            ("role:member", true),
            ("role:MEMBER", true),
            ("role:admin", false),
            ("rule:yes", true),
            ("rule:no", false),
            ("not rule:no", true),
            ("not not rule:no", false),
            ("role:admin or role:reader", true),
            ("role:admin and role:reader", false),
            // and binds closer than or
            ("role:reader or role:admin and role:admin", true),
            ("(role:reader or role:admin) and role:admin", false),
            ("((role:reader))", true),
            ("not (role:reader and role:admin)", true),
            ("project_id:%(node.owner)s", true),
            ("project_id:%(node.lessee)s", false),
            // what is not set on either side is not the same
            ("system_scope:%(allocation.owner)s", false),
            ("project_id:%(allocation.owner)s", false),
            ("system_scope:None", true),
            ("system_scope:all", false),
            ("'p1':%(node.owner)s", true),
            ("True:%(node.owner)s", false),
            ("user_id:%(user_id)s", true),
            ("project_id:p%(nothing)s", false),
            ("role:mem%%ber", false),
            ("ROLE:member AND role:reader", false),
            ("role:member AND role:reader", true),
        ] {
            assert_eq!(asked(text), expected, "{text}");
        }
    }

    #[test]
    fn what_means_nothing_is_said_when_it_is_read() {
        let rules = HashMap::new();
        for text in [
            "role",
            "role:a and",
            "or role:a",
            "(role:a",
            "role:a)",
            "role:a role:b",
            "rule:gone",
            "not",
            "project_id:%(x",
            "project_id:%x",
            "http://h/%(x)s",
            "()",
            ":x",
        ] {
            assert!(Check::parse(text, &rules).is_err(), "{text}");
        }
        let deep = format!("{}role:a{}", "(".repeat(100), ")".repeat(100));
        assert_eq!(Check::parse(&deep, &rules), Err(BadCheck::Deep));
    }
}
