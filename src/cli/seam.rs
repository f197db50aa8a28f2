//! Stands in for the part of `engine` that has not landed; same signatures, no deed. To be deleted: every use says
//! `super::seam::…` or `crate::cli::seam::…` and becomes `crate::engine::…`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::engine::cancel::Cancel;
use crate::engine::event::EventSink;
use crate::engine::roots::Roots;
use crate::engine::view::{ContainerView, ExecOptions, ImageView, LogLine, LogQuery};
use crate::plan::options::{DownOptions, UpOptions};
use crate::spec::model::Stack;
use crate::spec::model::service::PullPolicy;
use crate::spec::names::ProjectName;

/// One opened instance.
pub struct Engine;

/// A plan that is not applied.
pub struct Planned {
    /// What to say beforehand.
    pub warnings: Vec<String>,
}

impl fmt::Display for Planned {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// What `build` is to do.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "stands in")]
pub struct BuildOptions {
    pub services: Vec<String>,
    pub no_cache: bool,
    pub pull: bool,
    pub build_args: BTreeMap<String, Option<String>>,
    pub quiet: bool,
    pub with_dependencies: bool,
}

/// What `pull` is to do.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "stands in")]
pub struct PullOptions {
    pub services: Vec<String>,
    pub include_deps: bool,
    pub ignore_failures: bool,
    pub ignore_buildable: bool,
    pub policy: Option<PullPolicy>,
}

/// Lines as they come.
pub struct LogStream;

impl LogStream {
    /// Returns the next line.
    pub async fn next(&mut self) -> Result<Option<LogLine>, EngineError> {
        Err(EngineError::NotYet)
    }
}

/// A process in a container.
pub struct ExecSession {
    /// Master of its pseudo-terminal.
    pub terminal: Option<OwnedFd>,
}

impl ExecSession {
    /// Waits for its end.
    pub async fn wait(self) -> Result<i32, EngineError> {
        Err(EngineError::NotYet)
    }
}

/// Why a command of the engine failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It stands in.
    #[error("the engine has not landed yet")]
    NotYet,
}

impl EngineError {
    /// Advice.
    pub fn hints(&self) -> Vec<String> {
        Vec::new()
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        1
    }
}

type Unit = Result<(), EngineError>;

#[expect(
    clippy::unused_async,
    missing_docs,
    clippy::missing_docs_in_private_items,
    reason = "stands in"
)]
impl Engine {
    pub fn open(_: &Roots, _: &BTreeMap<String, String>) -> Result<Self, EngineError> {
        Err(EngineError::NotYet)
    }

    pub async fn plan_up(&self, _: &Stack, _: &UpOptions) -> Result<Planned, EngineError> {
        Err(EngineError::NotYet)
    }

    pub async fn up(&self, _: &Stack, _: &UpOptions, _: &dyn EventSink, _: &Cancel) -> Unit {
        Err(EngineError::NotYet)
    }

    pub async fn down(
        &self,
        _: &ProjectName,
        _: Option<&Stack>,
        _: &DownOptions,
        _: &dyn EventSink,
        _: &Cancel,
    ) -> Unit {
        Err(EngineError::NotYet)
    }

    pub async fn plan_down(
        &self,
        _: &ProjectName,
        _: Option<&Stack>,
        _: &DownOptions,
    ) -> Result<Planned, EngineError> {
        Err(EngineError::NotYet)
    }

    pub async fn stop(
        &self,
        _: &ProjectName,
        _: &[String],
        _: Option<Duration>,
        _: &dyn EventSink,
        _: &Cancel,
    ) -> Unit {
        Err(EngineError::NotYet)
    }

    pub async fn kill(&self, _: &ProjectName, _: &[String], _: i32, _: &dyn EventSink) -> Unit {
        Err(EngineError::NotYet)
    }

    pub async fn build(&self, _: &Stack, _: &BuildOptions, _: &dyn EventSink, _: &Cancel) -> Unit {
        Err(EngineError::NotYet)
    }

    pub async fn pull(&self, _: &Stack, _: &PullOptions, _: &dyn EventSink, _: &Cancel) -> Unit {
        Err(EngineError::NotYet)
    }

    pub fn containers(
        &self,
        _: Option<&ProjectName>,
        _: bool,
    ) -> Result<Vec<ContainerView>, EngineError> {
        Err(EngineError::NotYet)
    }

    pub fn images(&self) -> Result<Vec<ImageView>, EngineError> {
        Err(EngineError::NotYet)
    }

    pub fn project_images(&self, _: &ProjectName) -> Result<Vec<ImageView>, EngineError> {
        Err(EngineError::NotYet)
    }

    pub async fn import_image(
        &self,
        _: Box<dyn Read>,
        _: Option<&str>,
        _: &[String],
    ) -> Result<String, EngineError> {
        Err(EngineError::NotYet)
    }

    pub fn logs(&self, _: &ProjectName, _: &LogQuery) -> Result<LogStream, EngineError> {
        Err(EngineError::NotYet)
    }

    pub async fn exec(
        &self,
        _: &ProjectName,
        _: &str,
        _: &ExecOptions,
    ) -> Result<ExecSession, EngineError> {
        Err(EngineError::NotYet)
    }
}
