//! What one load may take in all, whatever its files say: a Compose file, its `.env` and what it includes may come from
//! anyone, and no few lines of theirs may cost the memory or the time of the machine.
//!
//! The limits lie far above what any project needs (ten thousand services are a quarter of [`Resource::Nodes`]), and
//! together keep a load beneath 512 MB of memory and a few seconds.

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Bytes of the files that are kept for errors.
    Read,
    /// Bytes that are parsed; those of a file that is included twice count twice.
    Parsed,
    /// Files, includes and documents.
    Files,
    /// Values in the trees: written, stood for by aliases, taken over by `extends`, or what a short form stands for.
    Nodes,
    /// Bytes that interpolation, env files and the environment put into the tree.
    Filled,
}

impl Resource {
    /// How much of it a load may take.
    pub(crate) const fn limit(self) -> usize {
        match self {
            Self::Read => 64 << 20,
            Self::Parsed => 128 << 20,
            Self::Files => 10_000,
            Self::Nodes => 1_000_000,
            Self::Filled => 48 << 20,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Read => 0,
            Self::Parsed => 1,
            Self::Files => 2,
            Self::Nodes => 3,
            Self::Filled => 4,
        }
    }

    /// What is said where there is too much of it.
    pub(crate) fn exceeded(self) -> String {
        let limit = self.limit();
        match self {
            Self::Read => format!("the project's files are larger than {} MiB", limit >> 20),
            Self::Parsed => {
                format!(
                    "the project's files, each as often as it is used, are larger than {} MiB",
                    limit >> 20
                )
            }
            Self::Files => format!("the project has more than {limit} files and documents"),
            Self::Nodes => format!(
                "the project has more than {limit} values, with all that aliases, `extends` and ranges stand for"
            ),
            Self::Filled => format!(
                "variables put more than {} MiB of text into the project",
                limit >> 20
            ),
        }
    }
}

/// What a load has taken so far.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    taken: [usize; 5],
    told: [bool; 5],
}

/// What taking from a budget came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// There was enough.
    Granted,
    /// There was not, for the first time: this is to be reported.
    FirstRefusal,
    /// There was not, as before.
    Refused,
}

impl Budget {
    /// Takes `amount` of `what`. From the first refusal on, nothing of it is granted.
    pub(crate) fn take(&mut self, what: Resource, amount: usize) -> Taken {
        let index = what.index();
        let taken = self.taken[index].saturating_add(amount);
        if taken <= what.limit() && !self.told[index] {
            self.taken[index] = taken;
            return Taken::Granted;
        }
        if std::mem::replace(&mut self.told[index], true) {
            Taken::Refused
        } else {
            Taken::FirstRefusal
        }
    }

    /// Returns how much of `what` is left.
    pub(crate) fn left(&self, what: Resource) -> usize {
        let index = what.index();
        if self.told[index] {
            return 0;
        }
        what.limit().saturating_sub(self.taken[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_refusal_is_told_apart_and_nothing_is_granted_after_it() {
        let mut budget = Budget::default();
        let files = Resource::Files;
        let taken = [
            budget.take(files, files.limit() - 1),
            budget.take(files, 2),
            budget.take(files, 1),
            budget.take(Resource::Nodes, 1),
        ];
        assert_eq!(
            taken,
            [
                Taken::Granted,
                Taken::FirstRefusal,
                Taken::Refused,
                Taken::Granted
            ]
        );
        let left = [files, Resource::Nodes].map(|what| budget.left(what));
        assert_eq!(left, [0, Resource::Nodes.limit() - 1]);
    }
}
