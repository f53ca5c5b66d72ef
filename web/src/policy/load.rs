//! Policies from their table and a file that overrides rows of it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use yaml_rust2::{Yaml, YamlLoader};

use super::CALLER;
use super::language::{BadCheck, Check};
use super::table::{PERSONAS, Rule};

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error(
        "cannot read the policy file {path}: {source}; correct [oslo_policy] policy_file, or give this user the right to \
         read it"
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not YAML or JSON.
    #[error("the policy file {path} is neither YAML nor JSON: {why}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and why.
        why: String,
    },
    /// The file is not a map of names to checks.
    #[error(
        "the policy file {path} has to map names of rules to checks, such as \
         \"baremetal:node:get\": \"role:reader\"; {what} is neither"
    )]
    Form {
        /// Which.
        path: PathBuf,
        /// The row.
        what: String,
    },
    /// A check that means nothing.
    #[error("the policy \"{rule}\" cannot be understood: {why}")]
    Check {
        /// Which.
        rule: String,
        /// Why.
        why: BadCheck,
    },
    /// Rules that refer to each other.
    #[error("the policy \"{rule}\" refers to itself, through others or directly; it could never be answered")]
    Circle {
        /// One of them.
        rule: String,
    },
}

/// Every policy, ready to be asked.
#[derive(Debug)]
pub struct Policy {
    pub(super) checks: Vec<Check>,
    /// The place of each [`Rule`], in the order of [`Rule::ALL`].
    pub(super) places: Vec<usize>,
    /// The project whose `service` role reads and changes everything; none when that is not wanted.
    pub(super) service_project: Option<String>,
    /// What the file says to no effect.
    doubts: Vec<String>,
}

impl Policy {
    /// The table, with the rows of `file` over it. `service_project` is the project whose `service` role has the rights
    /// of a member of the system (`[auth] rbac_service_project_name`, when they are elevated).
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn load(file: Option<&Path>, service_project: Option<String>) -> Result<Policy, PolicyError> {
        let policy = Policy::read(file, service_project)?;
        for doubt in &policy.doubts {
            tracing::warn!("the policy file: {doubt}");
        }
        Ok(policy)
    }

    /// What the file says that is understood and will have no effect, or not the one that was meant.
    #[must_use]
    pub fn doubts(&self) -> &[String] {
        &self.doubts
    }

    /// [`Policy::load`] without a word in the log.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(file: Option<&Path>, service_project: Option<String>) -> Result<Policy, PolicyError> {
        let overrides = match file {
            Some(path) => read(path)?,
            None => BTreeMap::new(),
        };
        Policy::build(&overrides, service_project)
    }

    pub(super) fn build(
        overrides: &BTreeMap<String, String>,
        service_project: Option<String>,
    ) -> Result<Policy, PolicyError> {
        let mut texts: BTreeMap<&str, &str> = PERSONAS.iter().copied().collect();
        texts.extend(Rule::ALL.iter().map(|rule| (rule.as_str(), rule.default_check())));
        texts.extend(overrides.iter().map(|(name, check)| (name.as_str(), check.as_str())));
        let names: HashMap<String, usize> =
            texts.keys().enumerate().map(|(place, name)| ((*name).to_owned(), place)).collect();
        let checks = texts
            .iter()
            .map(|(name, text)| {
                Check::parse(text, &names).map_err(|why| PolicyError::Check { rule: (*name).to_owned(), why })
            })
            .collect::<Result<Vec<Check>, _>>()?;
        let order: Vec<&str> = texts.keys().copied().collect();
        circles(&checks, &order)?;
        let places = Rule::ALL.iter().map(|rule| names[rule.as_str()]).collect();
        let doubts = doubts(overrides, &checks, &names);
        Ok(Policy { checks, places, service_project, doubts })
    }
}

/// Rules of `overrides` that nothing asks for, and attributes of callers that no caller has.
fn doubts(
    overrides: &BTreeMap<String, String>,
    checks: &[Check],
    names: &HashMap<String, usize>,
) -> Vec<String> {
    let mut used = Vec::new();
    checks.iter().for_each(|check| check.refers_to(&mut used));
    let built_in =
        || Rule::ALL.iter().map(|rule| rule.as_str()).chain(PERSONAS.iter().map(|(name, _)| *name));
    let near = |word: &str, known: &mut dyn Iterator<Item = &'static str>| {
        let likeness = known.map(|name| (strsim::jaro_winkler(word, name), name));
        let best = likeness.filter(|(likeness, _)| *likeness > 0.75).max_by(|a, b| a.0.total_cmp(&b.0));
        best.map(|(_, name)| format!("; did you mean \"{name}\"?")).unwrap_or_default()
    };
    let mut found = Vec::new();
    for name in overrides.keys() {
        if !built_in().any(|known| known == name) && !used.contains(&names[name]) {
            let near = near(name, &mut built_in());
            found.push(format!("there is no policy \"{name}\", and no other refers to it{near}"));
        }
        let mut attributes = Vec::new();
        checks[names[name]].attributes(&mut attributes);
        for attribute in attributes {
            let kinds = || CALLER.iter().chain(&["role", "rule"]).copied();
            if !CALLER.contains(&attribute) {
                let near = near(attribute, &mut kinds());
                found.push(format!(
                    "the policy \"{name}\" asks for \"{attribute}:\", which no caller has{near}"
                ));
            }
        }
    }
    found
}

/// Refuses rules that refer to themselves: the question would have no end.
fn circles(checks: &[Check], names: &[&str]) -> Result<(), PolicyError> {
    // how many of the rules that each refers to are not known to end yet
    let mut open: Vec<usize> = vec![0; checks.len()];
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); checks.len()];
    for (place, check) in checks.iter().enumerate() {
        let mut used = Vec::new();
        check.refers_to(&mut used);
        open[place] = used.len();
        used.into_iter().for_each(|target| users[target].push(place));
    }
    let mut ends: Vec<usize> = (0..checks.len()).filter(|place| open[*place] == 0).collect();
    while let Some(place) = ends.pop() {
        for user in &users[place] {
            open[*user] -= 1;
            if open[*user] == 0 {
                ends.push(*user);
            }
        }
    }
    match open.iter().position(|left| *left > 0) {
        Some(place) => Err(PolicyError::Circle { rule: names[place].to_owned() }),
        None => Ok(()),
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, String>, PolicyError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| PolicyError::Unreadable { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// YAML, of which JSON is a part.
fn parse(path: &Path, text: &str) -> Result<BTreeMap<String, String>, PolicyError> {
    let documents = YamlLoader::load_from_str(text)
        .map_err(|error| PolicyError::Syntax { path: path.to_owned(), why: error.to_string() })?;
    let form = |what: String| PolicyError::Form { path: path.to_owned(), what };
    let mut found = BTreeMap::new();
    for document in documents {
        match document {
            // a file of comments
            Yaml::Null | Yaml::BadValue => {}
            Yaml::Hash(rows) => {
                for (name, check) in rows {
                    let Yaml::String(name) = name else { return Err(form(format!("{name:?}"))) };
                    let check = match check {
                        Yaml::String(check) => check,
                        Yaml::Null => String::new(),
                        Yaml::Array(rows) if rows.is_empty() => String::new(),
                        Yaml::Array(_)
                        | Yaml::Hash(_)
                        | Yaml::Real(_)
                        | Yaml::Integer(_)
                        | Yaml::Boolean(_)
                        | Yaml::Alias(_)
                        | Yaml::BadValue => return Err(form(format!("the row \"{name}\""))),
                    };
                    found.insert(name, check);
                }
            }
            Yaml::Real(_)
            | Yaml::Integer(_)
            | Yaml::String(_)
            | Yaml::Boolean(_)
            | Yaml::Array(_)
            | Yaml::Alias(_) => return Err(form("what it holds".to_owned())),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Identity, Target};

    fn of(text: &str) -> Result<Policy, PolicyError> {
        Policy::build(&parse(Path::new("policy.yaml"), text)?, None)
    }

    #[test]
    fn what_is_said_to_no_effect_is_doubted_with_the_nearest() {
        for (text, doubted) in [
            ("\"baremetal:node:gte\": \"role:a\"", Some("did you mean \"baremetal:node:get\"?")),
            ("\"baremetal:node:get\": \"rol:admin\"", Some("did you mean \"role\"?")),
            ("\"baremetal:node:get\": \"not (rule:admin_api or porject_id:x)\"", Some("\"project_id\"")),
            ("\"mine\": \"role:a\"\n\"baremetal:node:get\": \"rule:mine\"", None),
            ("\"admin_api\": \"role:a and project_id:%(node.owner)s and 'x':x and True:%(a)s\"", None),
        ] {
            let policy = of(text).expect(text);
            assert_eq!(
                policy.doubts().len(),
                usize::from(doubted.is_some()),
                "{text}: {:?}",
                policy.doubts()
            );
            if let Some(doubted) = doubted {
                assert!(policy.doubts()[0].contains(doubted), "{:?}", policy.doubts());
            }
        }
        assert!(of("").expect("the table").doubts().is_empty(), "the built-in rules say nothing in vain");
    }

    #[test]
    fn files_of_both_kinds_are_read_and_wrong_ones_are_named() {
        for good in [
            "",
            "# nothing but a comment\n",
            "\"baremetal:node:get\": \"role:reader\"\n",
            r#"{"baremetal:node:get": "", "mine": "role:x", "baremetal:node:delete": "rule:mine"}"#,
        ] {
            of(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for (bad, said) in [
            ("\"baremetal:node:get\": \"rule:gone\"", "rule:gone"),
            ("\"baremetal:node:get\": \"role:a and\"", "baremetal:node:get"),
            ("\"a\": \"rule:b\"\n\"b\": \"not rule:a\"", "refers to itself"),
            ("\"a\": 5", "\"a\""),
            ("- a", "has to map"),
            ("{", "neither YAML nor JSON"),
        ] {
            let error = of(bad).expect_err(bad).to_string();
            assert!(error.contains(said), "{bad}: {error}");
        }
    }

    #[test]
    fn the_lines_of_the_manual_close_runbooks_to_services_of_other_projects() {
        let manual = include_str!("../../../docs/OPERATING.md");
        let lines =
            manual.split("```").find(|block| block.contains("\"runbook_admin\":")).expect("the lines");
        let closed = of(lines.trim_start_matches("yaml")).expect("a policy");
        let open = Policy::load(None, None).expect("the table");
        let with = |role: &str, project: &str| Identity {
            roles: [role.to_owned()].into(),
            project_id: Some(project.to_owned()),
            ..Identity::default()
        };
        let target = Target { owner: Some("p1"), lessee: None };
        for rule in [
            Rule::RunbookGet,
            Rule::RunbookCreate,
            Rule::RunbookUpdate,
            Rule::RunbookDelete,
            Rule::RunbookUse,
        ] {
            let own = with(if rule == Rule::RunbookGet { "reader" } else { "manager" }, "p1");
            assert!(open.allows(rule, &with("service", "p2"), target), "{}", rule.as_str());
            assert!(!closed.allows(rule, &with("service", "p2"), target), "{}", rule.as_str());
            assert!(closed.allows(rule, &own, target), "{}", rule.as_str());
        }
    }
}
