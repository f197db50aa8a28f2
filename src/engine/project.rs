//! A project's lock and its record.
//!
//! ```text
//! <root>/locks/<project>            flock: held by who changes the project, from observing to the end of applying
//! <root>/projects/<project>.json    what it was applied from and whether it should be up; outlives `down`
//! ```

use std::cell::RefCell;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::engine::cancel::Cancel;
use crate::engine::error::EngineError;
use crate::engine::event::{Event, EventKind, EventSink, Subject};
use crate::engine::source::Origin;
use crate::spec::model::Stack;
use crate::spec::names::ProjectName;
use crate::spec::render::{Form, render};
use crate::sys::atomic::{self, Durability};
use crate::sys::lock::{Lock, Mode};

/// `projects/<project>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProjectRecord {
    /// 1.
    pub version: u32,
    /// Project name.
    pub name: String,
    /// What relative paths were resolved against.
    pub directory: PathBuf,
    /// The files, absolute.
    pub files: Vec<PathBuf>,
    /// Where the files were fetched from, where they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Origin>,
    /// Whether it should be up.
    pub desired: DesiredProject,
    /// The canonical model it was last applied with.
    pub model: serde_json::Value,
}

/// What is wanted of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DesiredProject {
    /// Its containers run.
    Up,
    /// It has none.
    Down,
}

impl Engine {
    /// Returns where a project's record is.
    fn project_path(&self, project: &ProjectName) -> PathBuf {
        self.roots
            .root
            .join("projects")
            .join(format!("{project}.json"))
    }

    /// Records what `stack` was applied from; written only when it says something new.
    pub(crate) fn record_up(&self, stack: &Stack) -> Result<(), EngineError> {
        self.record_project(&ProjectRecord {
            version: 1,
            name: stack.name.to_string(),
            directory: stack.directory.clone(),
            files: stack.files.clone(),
            source: self.origin(&stack.directory)?,
            desired: DesiredProject::Up,
            model: render(stack, Form::Model),
        })
    }

    /// Records that a project is down, if it has a record.
    pub(crate) fn record_down(&self, project: &ProjectName) -> Result<(), EngineError> {
        let Some(mut record) = self.project_record(project)? else {
            return Ok(());
        };
        record.desired = DesiredProject::Down;
        self.record_project(&record)
    }

    /// Returns a project's record.
    pub(crate) fn project_record(
        &self,
        project: &ProjectName,
    ) -> Result<Option<ProjectRecord>, EngineError> {
        let path = self.project_path(project);
        let failed = |source| EngineError::file("read", &path, source);
        match fs_err::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| failed(error.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn record_project(&self, record: &ProjectRecord) -> Result<(), EngineError> {
        let path = self
            .roots
            .root
            .join("projects")
            .join(format!("{}.json", record.name));
        let failed = |source| EngineError::file("write", &path, source);
        let bytes = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        // `up` with nothing to do writes nothing.
        if fs_err::read(&path).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        fs_err::create_dir_all(path.parent().unwrap_or(&self.roots.root)).map_err(failed)?;
        atomic::write(&path, &bytes, 0o600, Durability::Cached).map_err(failed)
    }

    /// Waits for the lock of `project`.
    pub(crate) async fn lock_project(
        &self,
        project: &ProjectName,
    ) -> Result<ProjectLock, EngineError> {
        let path = self.path_of_lock(project);
        let taken = lock(path.clone()).await?;
        Ok(ProjectLock::new(path, taken))
    }

    /// As [`Engine::lock_project`], until somebody interrupts; tells where there is somebody to wait for.
    pub(crate) async fn enter_project(
        &self,
        project: &ProjectName,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<ProjectLock, EngineError> {
        let path = self.path_of_lock(project);
        let failed = |source| EngineError::file("lock", &path, source);
        if let Some(taken) = Lock::try_acquire(&path, Mode::Exclusive).map_err(failed)? {
            return Ok(ProjectLock::new(path, taken));
        }
        let text = format!("waiting for another command that is changing project {project}");
        events.emit(Event {
            subject: Subject::Project(project.to_string()),
            kind: EventKind::Warning(text),
        });
        tokio::select! {
            taken = self.lock_project(project) => taken,
            () = cancel.cancelled() => Err(EngineError::Interrupted),
        }
    }

    fn path_of_lock(&self, project: &ProjectName) -> PathBuf {
        self.roots.root.join("locks").join(project.as_str())
    }
}

/// Takes an exclusive lock; waits in a thread of its own where somebody has it, so that an interrupt is still heard.
pub(crate) async fn lock(path: PathBuf) -> Result<Lock, EngineError> {
    let failed = |source| EngineError::file("lock", &path, source);
    if let Some(lock) = Lock::try_acquire(&path, Mode::Exclusive).map_err(failed)? {
        return Ok(lock);
    }
    let waited = path.clone();
    let lock = tokio::task::spawn_blocking(move || Lock::acquire(&waited, Mode::Exclusive)).await;
    lock.map_err(|error| failed(std::io::Error::other(error)))?
        .map_err(failed)
}

/// The lock of one project while a plan is applied. It is given up while nothing but waits for conditions is going on, so
/// that a slow health check blocks nobody, and taken again before the next change.
#[derive(Debug)]
pub(crate) struct ProjectLock {
    path: PathBuf,
    held: RefCell<Option<Lock>>,
    waiting: RefCell<Activity>,
    taking: tokio::sync::Mutex<()>,
}

/// How many operations are going on.
#[derive(Debug, Default)]
struct Activity {
    changes: usize,
    waits: usize,
}

impl ProjectLock {
    fn new(path: PathBuf, taken: Lock) -> Self {
        Self {
            path,
            held: RefCell::new(Some(taken)),
            waiting: RefCell::default(),
            taking: tokio::sync::Mutex::new(()),
        }
    }

    /// Runs a change under the lock.
    pub(crate) async fn change<T>(&self, work: impl Future<Output = T>) -> Result<T, EngineError> {
        self.waiting.borrow_mut().changes += 1;
        let guard = Count {
            lock: self,
            wait: false,
        };
        {
            // One of several changes takes it back for all: two locks of one process would wait for each other.
            let _taking = self.taking.lock().await;
            if self.held.borrow().is_none() {
                let taken = lock(self.path.clone()).await?;
                *self.held.borrow_mut() = Some(taken);
            }
        }
        let result = work.await;
        drop(guard);
        Ok(result)
    }

    /// Runs a wait; the lock is free while only waits are going on.
    pub(crate) async fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.waiting.borrow_mut().waits += 1;
        let guard = Count {
            lock: self,
            wait: true,
        };
        self.release_if_idle();
        let result = work.await;
        drop(guard);
        result
    }

    /// Gives the lock up where only waits are left.
    fn release_if_idle(&self) {
        let activity = self.waiting.borrow();
        if activity.changes == 0 && activity.waits > 0 {
            drop(self.held.borrow_mut().take());
        }
    }
}

/// Counts one operation down when it ends, also when it is cut off.
struct Count<'a> {
    lock: &'a ProjectLock,
    wait: bool,
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        {
            let mut activity = self.lock.waiting.borrow_mut();
            if self.wait {
                activity.waits -= 1;
            } else {
                activity.changes -= 1;
            }
        }
        self.lock.release_if_idle();
    }
}
