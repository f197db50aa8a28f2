//! Why there is no plan, and what a plan warns of.

use std::fmt;

use super::fingerprint::Change;
use super::redact::Changes;

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// A service was named that the file does not have.
    #[error("no such service: {name}")]
    NoSuchService {
        /// As named.
        name: String,
    },
    /// Services wait for each other; `path` begins and ends with the same one.
    #[error("services depend on each other: {}", path.join(" -> "))]
    Cycle {
        /// The services, each depending on the next.
        path: Vec<String>,
    },
    /// A dependency is not enabled.
    #[error("service `{service}` depends on `{dependency}`, which no active profile enables")]
    DependencyDisabled {
        /// Who depends.
        service: String,
        /// On whom.
        dependency: String,
    },
    /// A dependency is not there at all.
    #[error("service `{service}` depends on `{dependency}`, which the file does not have")]
    DependencyUndefined {
        /// Who depends.
        service: String,
        /// On whom.
        dependency: String,
    },
    /// Two containers would have the same name.
    #[error(
        "service `{service}` has container_name `{container}` and cannot have {scale} containers"
    )]
    NameWithScale {
        /// Which service.
        service: String,
        /// Its `container_name`.
        container: String,
        /// How many were asked for.
        scale: u32,
    },
    /// More containers than a machine can have.
    #[error(
        "service `{service}` asks for {scale} containers: a machine has room for {limit} of a service at most"
    )]
    TooMany {
        /// Which service.
        service: String,
        /// How many were asked for.
        scale: u32,
        /// How many can be.
        limit: u32,
    },
    /// Two services ask for one container name.
    #[error("services `{first}` and `{second}` both have container_name `{container}`")]
    NameTwice {
        /// One service.
        first: String,
        /// Another.
        second: String,
        /// The name.
        container: String,
    },
    /// A container that stays has the name.
    #[error(
        "container name `{container}`, wanted by service `{service}`, is held by a container of service `{holder}`"
    )]
    NameTaken {
        /// Who wants it.
        service: String,
        /// The name.
        container: String,
        /// Whose container has it.
        holder: String,
    },
    /// An external network is missing.
    #[error("network `{name}` is declared as external, but does not exist")]
    ExternalNetwork {
        /// Name on the machine.
        name: String,
    },
    /// An external volume is missing.
    #[error("volume `{name}` is declared as external, but does not exist")]
    ExternalVolume {
        /// Name on the machine.
        name: String,
    },
    /// An image is not there and may not be fetched.
    #[error("image `{image}` of service `{service}` is not here, and {reason}")]
    Image {
        /// Reference.
        image: String,
        /// Who uses it.
        service: String,
        /// Why nothing is done about it.
        reason: &'static str,
    },
    /// An image is here for another platform, and the one asked for may not or could not be fetched.
    #[error(
        "image with reference `{image}` was found but does not provide the specified platform ({asked}): it is for {found}"
    )]
    Platform {
        /// Reference.
        image: String,
        /// Who uses it.
        service: String,
        /// What it asks for.
        asked: String,
        /// What is here.
        found: String,
    },
    /// The container whose network is shared is missing.
    #[error(
        "cannot share network namespace with service `{donor}` for `{service}`: container missing"
    )]
    DonorMissing {
        /// Who shares.
        service: String,
        /// Whose network.
        donor: String,
    },
    /// `start` found nothing to start.
    #[error("service `{service}` has no container to start")]
    NothingToStart {
        /// Which service.
        service: String,
    },
    /// The steps wait for each other.
    #[error("the changes wait for each other: {}", steps.join("; "))]
    Entangled {
        /// The steps, as they would be shown.
        steps: Vec<String>,
    },
}

/// What a plan warns of.
#[derive(Debug, Clone, PartialEq)]
pub enum Warning {
    /// Containers whose service the file does not have stay.
    Orphans {
        /// Their project.
        project: String,
        /// Their names.
        containers: Vec<String>,
    },
    /// Two services build one image, each in another way.
    SameImage {
        /// Its name.
        image: String,
        /// Whose build it is.
        built: String,
        /// Whose build is not done.
        other: String,
    },
    /// A network that somebody else made is used as it is.
    ForeignNetwork {
        /// Name on the machine.
        name: String,
        /// Who would have to have made it.
        project: String,
    },
    /// A volume that somebody else made is used as it is.
    ForeignVolume {
        /// Name on the machine.
        name: String,
        /// Who would have to have made it.
        project: String,
    },
    /// A network differs from the file, but containers outside the plan use it.
    NetworkKept {
        /// Name on the machine.
        name: String,
        /// How it differs.
        changes: Vec<Change>,
        /// Names of those containers.
        used_by: Vec<String>,
    },
    /// A volume differs from the file; it is never made anew, since its content would be lost.
    VolumeKept {
        /// Name on the machine.
        name: String,
        /// How it differs.
        changes: Vec<Change>,
    },
    /// A network or volume cannot be removed: containers that stay use it.
    StillInUse {
        /// `network` or `volume`.
        kind: &'static str,
        /// Name on the machine.
        name: String,
        /// Names of those containers.
        used_by: Vec<String>,
    },
    /// There is nothing to remove.
    NothingToRemove {
        /// The project.
        project: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orphans {
                project,
                containers,
            } => write!(
                f,
                "found orphan containers ({}) for project `{project}`: their services are not in the file; \
                 `--remove-orphans` removes them",
                containers.join(", ")
            ),
            Self::ForeignNetwork { name, project } => write!(
                f,
                "network `{name}` exists but was not created for project `{project}`; it is used as it is: set \
                 `external: true` to say so"
            ),
            Self::ForeignVolume { name, project } => write!(
                f,
                "volume `{name}` exists but was not created for project `{project}`; it is used as it is: set \
                 `external: true` to say so"
            ),
            Self::SameImage {
                image,
                built,
                other,
            } => write!(
                f,
                "services `{built}` and `{other}` build image `{image}`, each in another way: it is built as `{built}` says"
            ),
            Self::NetworkKept {
                name,
                changes,
                used_by,
            } => write!(
                f,
                "network `{name}` differs from the file ({}), but is kept: containers outside this command use it ({})",
                Changes(changes),
                used_by.join(", ")
            ),
            Self::VolumeKept { name, changes } => write!(
                f,
                "volume `{name}` differs from the file ({}), but is kept: its content would be lost",
                Changes(changes)
            ),
            Self::StillInUse {
                kind,
                name,
                used_by,
            } => write!(
                f,
                "{kind} `{name}` is kept: still in use by {}",
                used_by.join(", ")
            ),
            Self::NothingToRemove { project } => {
                write!(f, "no resource found to remove for project `{project}`")
            }
        }
    }
}
