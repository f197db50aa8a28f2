//! Why a step is there.

use std::fmt;

use super::fingerprint::Change;
use super::redact::Changes;

/// Why a step is there.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// It does not exist.
    Missing,
    /// The service has fewer containers than it should.
    NoContainer,
    /// What was asked for differs from what is asked for now.
    Changed(Vec<Change>),
    /// `--force-recreate`, `--always-recreate-deps`, `--renew-anon-volumes`, `--build`: the flag.
    Flag(&'static str),
    /// It runs, but not attached to this network.
    NotAttached {
        /// Name on the machine.
        network: String,
    },
    /// Its record cannot be read.
    Unreadable,
    /// The container whose network it shares is replaced.
    DonorReplaced {
        /// Whose container.
        service: String,
    },
    /// The container whose network it shares starts anew.
    DonorRestarts {
        /// Whose container.
        service: String,
    },
    /// It asks to be restarted when this dependency is replaced (`restart: true`).
    DependencyReplaced {
        /// The dependency.
        service: String,
    },
    /// A network it is attached to is made anew.
    NetworkReplaced {
        /// Name on the machine.
        network: String,
    },
    /// A newer container has taken, or takes, its place.
    Replaced,
    /// It takes the place of another.
    Replaces,
    /// An earlier replacement was cut off.
    Interrupted,
    /// The service has more containers than it should.
    ScaleDown {
        /// How many it should have.
        to: u32,
    },
    /// Its service is not in the file.
    Orphan {
        /// The service.
        service: String,
    },
    /// The file does not have it.
    NotInFile,
    /// It was made and never started.
    NotStarted,
    /// It was stopped a step before.
    Stopped,
    /// It has ended.
    Exited {
        /// `None` where it could not be learnt.
        code: Option<i32>,
    },
    /// These services wait for it.
    NeededBy {
        /// Their names.
        services: Vec<String>,
    },
    /// The image's pull policy says so.
    PullPolicy(&'static str),
    /// The image is here for this platform, which is not the one asked for.
    OtherPlatform(String),
    /// The image could not be pulled, and can be built.
    PullFailed,
    /// The command asks for it: `down`, `stop`.
    Command(&'static str),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist yet"),
            Self::NoContainer => f.write_str("no container yet"),
            Self::OtherPlatform(found) => write!(f, "is here for {found} only"),
            Self::Changed(changes) => Changes(changes).fmt(f),
            Self::Flag(flag) => f.write_str(flag),
            Self::NotAttached { network } => write!(f, "not attached to network {network}"),
            Self::Unreadable => f.write_str("its record cannot be read"),
            Self::DonorReplaced { service } => {
                write!(f, "shares the network of {service}, which is replaced")
            }
            Self::DonorRestarts { service } => {
                write!(f, "shares the network of {service}, which starts anew")
            }
            Self::DependencyReplaced { service } => {
                write!(f, "depends on {service}, which is replaced")
            }
            Self::NetworkReplaced { network } => {
                write!(f, "attached to network {network}, which is made anew")
            }
            Self::Replaced => f.write_str("replaced"),
            Self::Replaces => f.write_str("takes its place"),
            Self::Interrupted => f.write_str("an earlier replacement was interrupted"),
            Self::ScaleDown { to } => write!(f, "scale down to {to}"),
            Self::Orphan { service } => write!(f, "service {service} is not in the file"),
            Self::NotInFile => f.write_str("not in the file"),
            Self::NotStarted => f.write_str("not started yet"),
            Self::Stopped => f.write_str("was stopped"),
            Self::Exited { code: Some(code) } => write!(f, "exited with {code}"),
            Self::Exited { code: None } => f.write_str("has ended"),
            Self::NeededBy { services } => write!(f, "needed by {}", services.join(", ")),
            Self::PullPolicy(policy) => write!(f, "pull policy is {policy}"),
            Self::PullFailed => f.write_str("if it cannot be pulled"),
            Self::Command(command) => f.write_str(command),
        }
    }
}
