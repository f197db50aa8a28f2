//! The machine as `apply` sees it: one method an action, no decision in any of them.
//!
//! Rules for who implements it (the Linux host, and the fake of the tests):
//!
//! - A method either completes or undoes itself; nothing is rolled back across steps.
//! - What an action asks for that is already so is no error: removing what is gone, stopping what does not run, creating a
//!   network or volume of that name that is there.
//! - `create_container` needs the image, the volumes and the container of `network_of`, but no network: addresses are leased by
//!   the first start after a create or a disconnect, and held until the container is removed or disconnected.
//! - The futures of `pull_image`, `build_image`, `await_condition` and `stop_container` may be dropped at any point (an
//!   interrupt). The others are always driven to their end.
//! - All futures run on one thread, many at a time.

use crate::plan::action::{
    AnonymousVolumes, AwaitCondition, BuildImage, ContainerSpec, NetworkSpec, PullImage, VolumeSpec,
};
use crate::plan::observed::ContainerId;
use std::time::Duration;

/// Why an operation failed; its chain of sources is shown to the user.
pub type HostError = Box<dyn std::error::Error + 'static>;

/// What operations return.
pub type HostResult<T> = Result<T, HostError>;

/// The machine.
pub trait Host {
    /// Fetches an image.
    fn pull_image(&self, pull: &PullImage) -> impl Future<Output = HostResult<()>>;

    /// Builds an image.
    fn build_image(&self, build: &BuildImage) -> impl Future<Output = HostResult<()>>;

    /// Ends the builds that go on, and those that would begin: each fails with [`BuildError::Interrupted`].
    ///
    /// [`BuildError::Interrupted`]: crate::images::build::BuildError::Interrupted
    fn end_builds(&self);

    /// Makes a network.
    fn create_network(&self, network: &NetworkSpec) -> impl Future<Output = HostResult<()>>;

    /// Removes a network.
    fn remove_network(&self, name: &str) -> impl Future<Output = HostResult<()>>;

    /// Makes a volume.
    fn create_volume(&self, volume: &VolumeSpec) -> impl Future<Output = HostResult<()>>;

    /// Removes a volume and its content.
    fn remove_volume(&self, name: &str) -> impl Future<Output = HostResult<()>>;

    /// Makes a container and returns its id; `network_of` is `spec.network_of`, resolved.
    fn create_container(
        &self,
        spec: &ContainerSpec,
        network_of: Option<&ContainerId>,
    ) -> impl Future<Output = HostResult<ContainerId>>;

    /// Gives a container another name.
    fn rename_container(
        &self,
        container: &ContainerId,
        to: &str,
    ) -> impl Future<Output = HostResult<()>>;

    /// Makes a stopped container give back its addresses.
    fn disconnect_container(&self, container: &ContainerId)
    -> impl Future<Output = HostResult<()>>;

    /// Starts a container.
    fn start_container(&self, container: &ContainerId) -> impl Future<Output = HostResult<()>>;

    /// Waits until `containers`, all of `wait.service`, meet `wait.condition`; `wait.timeout` is kept by the caller.
    fn await_condition(
        &self,
        wait: &AwaitCondition,
        containers: &[ContainerId],
    ) -> impl Future<Output = HostResult<()>>;

    /// Stops a container; `timeout` instead of its own grace.
    fn stop_container(
        &self,
        container: &ContainerId,
        timeout: Option<Duration>,
    ) -> impl Future<Output = HostResult<()>>;

    /// Removes a container.
    fn remove_container(
        &self,
        container: &ContainerId,
        anonymous_volumes: AnonymousVolumes,
    ) -> impl Future<Output = HostResult<()>>;
}
