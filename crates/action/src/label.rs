//! Labels for information flow: who could have written a piece of data, and who may see it.

use serde::Serialize;

/// Who could have written the data. Orders `Trusted < Untrusted`: joining keeps the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Integrity {
    /// The person at the keyboard, their configuration, their own workspace.
    Trusted,
    /// Anybody else: web pages, mail, other people's tools.
    Untrusted,
}

/// Who may see the data. Orders from least to most sensitive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidentiality {
    /// Anybody.
    Public,
    /// The person's own services, a configured cloud model included.
    Internal,
    /// Only this machine unless a person allows it.
    Confidential,
    /// Only this machine: keys, credentials.
    Restricted,
}

/// A point in the lattice integrity x confidentiality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Label {
    /// Who could have written it.
    pub integrity: Integrity,
    /// Who may see it.
    pub confidentiality: Confidentiality,
}

impl Label {
    /// What the person types: trusted, internal.
    pub const PERSON: Self = Self::new(Integrity::Trusted, Confidentiality::Internal);
    /// Credentials found in the workspace: trusted, restricted.
    pub const SECRET: Self = Self::new(Integrity::Trusted, Confidentiality::Restricted);
    /// The bottom of the lattice: trusted, public. `x.join(BOTTOM) == x`.
    pub const BOTTOM: Self = Self::new(Integrity::Trusted, Confidentiality::Public);

    /// A label from its two parts.
    #[must_use]
    pub const fn new(integrity: Integrity, confidentiality: Confidentiality) -> Self {
        Self { integrity, confidentiality }
    }

    /// The least label that is at least as restrictive as both. Data made from two sources carries it.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            integrity: self.integrity.max(other.integrity),
            confidentiality: self.confidentiality.max(other.confidentiality),
        }
    }
}

/// A value together with its label.
#[derive(Debug, Clone)]
#[must_use = "a labelled value loses its label when dropped on the floor"]
pub struct Labelled<T> {
    /// The value.
    pub value: T,
    /// Where it may go and who could have written it.
    pub label: Label,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_label() -> impl Strategy<Value = Label> {
        let integrity = prop_oneof![Just(Integrity::Trusted), Just(Integrity::Untrusted)];
        let confidentiality = prop_oneof![
            Just(Confidentiality::Public),
            Just(Confidentiality::Internal),
            Just(Confidentiality::Confidential),
            Just(Confidentiality::Restricted)
        ];
        (integrity, confidentiality).prop_map(|(i, c)| Label::new(i, c))
    }

    proptest! {
        #[test]
        fn join_is_a_semilattice(a in any_label(), b in any_label(), c in any_label()) {
            prop_assert_eq!(a.join(b), b.join(a));
            prop_assert_eq!(a.join(b).join(c), a.join(b.join(c)));
            prop_assert_eq!(a.join(a), a);
            prop_assert_eq!(a.join(Label::BOTTOM), a);
        }

        #[test]
        fn join_never_loosens(a in any_label(), b in any_label()) {
            let joined = a.join(b);
            prop_assert!(joined.integrity >= a.integrity && joined.confidentiality >= a.confidentiality);
        }
    }
}
