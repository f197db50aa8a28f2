//! The ssh agents of a build: those that run already, and one of its own for each id that has key files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::options;
use crate::engine::error::EngineError;
use crate::engine::{Engine, step};
use crate::images::build::{AgentSource, KeyAgent};
use crate::sys::lock::Lock;

/// The agents of one build; those that were made for it end when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    /// By id.
    pub(crate) sockets: BTreeMap<String, PathBuf>,
    /// First to go: their sockets are in the directories.
    started: Vec<KeyAgent>,
    directories: Vec<Directory>,
}

/// A directory beneath the run directory that goes with its build.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Says that the build lives.
    _owner: Lock,
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What stays is found by the next build.
        let _removed = fs_err::remove_dir_all(&self.path);
    }
}

impl Engine {
    /// Finds or starts the agents of `--ssh`s.
    pub(crate) async fn agents(
        &self,
        typed: &[String],
        directory: &Path,
    ) -> Result<Agents, EngineError> {
        let mut agents = Agents::default();
        for text in typed {
            let (id, source) = options::ssh(text, directory, &self.environment)?;
            let socket = match source {
                AgentSource::Socket(socket) => socket,
                AgentSource::Keys(keys) => {
                    let directory = self.step_directory()?;
                    let started = KeyAgent::start(&directory.path, &keys).await;
                    agents.directories.push(directory);
                    let wrong = |error| options::wrong("--ssh", text, crate::engine::chain(&error));
                    let agent = started.map_err(wrong)?;
                    let socket = agent.socket.clone();
                    agents.started.push(agent);
                    socket
                }
            };
            agents.sockets.insert(id, socket);
        }
        Ok(agents)
    }

    /// Makes a directory that is removed with what is left of a killed build's steps.
    fn step_directory(&self) -> Result<Directory, EngineError> {
        let failed = |source| EngineError::System {
            attempted: "make room for the keys of a build".to_owned(),
            source,
        };
        let id =
            crate::runtime::random_id().map_err(|error| failed(std::io::Error::other(error)))?;
        let path = step::directory(self, id.as_str());
        let owner = step::own(&path).map_err(failed)?;
        Ok(Directory {
            path,
            _owner: owner,
        })
    }
}
