//! Which nodes are in which provision state, as last seen.

use std::sync::{Mutex, MutexGuard};

/// Provision states in the order of a life, as they are drawn; others come after them.
const ORDER: &[&str] = &[
    "enroll",
    "verifying",
    "manageable",
    "inspecting",
    "inspect wait",
    "cleaning",
    "clean wait",
    "available",
    "deploying",
    "wait call-back",
    "active",
    "deleting",
    "inspect failed",
    "clean failed",
    "deploy failed",
    "error",
];

/// Counts nodes by state. A state is a small number here.
#[derive(Debug)]
pub(crate) struct States(Mutex<Table>);

#[derive(Debug)]
struct Table {
    names: Vec<String>,
    counts: Vec<u32>,
}

impl Default for States {
    fn default() -> Self {
        let names: Vec<String> = ORDER.iter().map(|&name| name.to_owned()).collect();
        Self(Mutex::new(Table { counts: vec![0; names.len()], names }))
    }
}

impl States {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("no code panics while it holds the states")
    }

    /// A node that was in `from` is in `to`; `None` is not enrolled. Answers the number of `to`.
    pub(crate) fn moved(&self, from: Option<usize>, to: Option<&str>) -> Option<usize> {
        let mut table = self.table();
        if let Some(from) = from {
            table.counts[from] = table.counts[from].saturating_sub(1);
        }
        let to = to?;
        let number = table.names.iter().position(|name| name == to).unwrap_or_else(|| {
            table.names.push(to.to_owned());
            table.counts.push(0);
            table.names.len() - 1
        });
        table.counts[number] += 1;
        Some(number)
    }

    /// The name of a state.
    pub(crate) fn name(&self, number: usize) -> String {
        self.table().names[number].clone()
    }

    /// Every state's name, in the order of the counts.
    pub(crate) fn names(&self) -> Vec<String> {
        self.table().names.clone()
    }

    /// Nodes by state.
    pub(crate) fn counts(&self) -> Vec<u32> {
        self.table().counts.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_in_one_state_at_a_time() {
        let states = States::default();
        let first = states.moved(None, Some("enroll"));
        let second = states.moved(first, Some("levitating"));
        assert_eq!(second.map(|number| states.name(number)).as_deref(), Some("levitating"));
        assert_eq!(states.counts().iter().sum::<u32>(), 1);
        assert_eq!(states.moved(second, None), None);
        assert_eq!(states.counts().iter().sum::<u32>(), 0);
    }
}
