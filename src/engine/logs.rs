//! The logs of a project's containers as one stream of lines, with their ends.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use tokio::sync::Notify;

use crate::engine::cancel::Cancel;
use crate::engine::error::EngineError;
use crate::engine::view::{LogKind, LogLine, LogQuery};
use crate::engine::{Engine, readable};
use crate::plan::naming;
use crate::runtime::config::ContainerId;
use crate::runtime::logs::{Entry, Follower, ReadOptions, Stream};
use crate::runtime::record::{Exit, Timestamp};
use crate::runtime::status::{Container, Status};
use crate::runtime::{Changes, Runtime};
use crate::spec::names::ProjectName;

/// Lines of several containers: what is there in order of time, then what comes as it comes.
#[derive(Debug)]
pub struct LogStream {
    runtime: Rc<Runtime>,
    project: ProjectName,
    query: LogQuery,
    follower: Follower,
    changes: Changes,
    sources: Vec<Source>,
    /// Ids of `sources`, and which one each is.
    known: BTreeMap<ContainerId, usize>,
    ready: VecDeque<LogLine>,
    /// Lines asked for so far.
    turns: u32,
    /// Ends to be told once every line that is there has been.
    ends: VecDeque<(usize, LogLine)>,
    /// What may have changed since containers were last looked at.
    stale: Stale,
    /// Until this is cancelled, the end of every container is not the end.
    held_open: Option<Cancel>,
    /// Which containers are followed yet; all that are asked for where absent.
    gate: Option<Gate>,
    /// Whether what is there is the rest.
    closing: bool,
}

/// Containers to look at again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stale {
    /// These.
    Some(BTreeSet<ContainerId>),
    /// All.
    All,
}

/// Which containers a [`LogStream`] follows while the command that starts them is at it: a container that is about to be
/// replaced, or has ended before, has nothing to say. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    shared: Rc<GateState>,
}

/// What the clones share.
#[derive(Debug, Default)]
struct GateState {
    /// Let in, and not yet looked at.
    admitted: RefCell<Vec<ContainerId>>,
    position: Cell<Position>,
    notify: Notify,
}

/// How a gate stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Position {
    /// Only who was let in is followed, and the stream does not end.
    #[default]
    Shut,
    /// Whoever is asked for is followed, and the stream ends as it would without a gate.
    Open,
    /// Nobody new is followed, and the stream ends with what is there.
    Closed,
}

impl Gate {
    /// Lets a container in.
    pub fn admit(&self, container: &crate::plan::observed::ContainerId) {
        if let Some(id) = ContainerId::new(container.as_str()) {
            self.shared.admitted.borrow_mut().push(id);
            self.shared.notify.notify_one();
        }
    }

    /// Lets everybody in: all that was to be started has been.
    pub fn open(&self) {
        self.turn(Position::Open);
    }

    /// Ends the stream once what is there has been read: nothing more is to come.
    pub fn close(&self) {
        self.turn(Position::Closed);
    }

    fn turn(&self, position: Position) {
        self.shared.position.set(position);
        self.shared.notify.notify_one();
    }

    /// Whether the stream has something to take notice of; an open gate is taken away.
    fn has_news(&self) -> bool {
        self.shared.position.get() != Position::Shut || !self.shared.admitted.borrow().is_empty()
    }

    /// Returns when something has happened to it.
    async fn changed(&self) {
        while !self.has_news() {
            self.shared.notify.notified().await;
        }
    }
}

/// One container's log.
#[derive(Debug)]
struct Source {
    container: String,
    service: String,
    number: u32,
    /// Number in the follower.
    reader: usize,
    buffer: VecDeque<Entry>,
    /// Whether its file may hold more than `buffer`.
    more: bool,
    /// The end that was last told.
    told: Option<Exit>,
    /// Whether it has ended for good.
    over: bool,
}

impl Engine {
    /// Opens the logs of `project`.
    pub fn logs(&self, project: &ProjectName, query: &LogQuery) -> Result<LogStream, EngineError> {
        let mut stream = self.log_stream(project, query, None)?;
        stream.look(true)?;
        Ok(stream)
    }

    /// Opens the logs of `project`, of those containers alone that `gate` lets in.
    pub fn logs_behind(
        &self,
        project: &ProjectName,
        query: &LogQuery,
        gate: Gate,
    ) -> Result<LogStream, EngineError> {
        self.log_stream(project, query, Some(gate))
    }

    fn log_stream(
        &self,
        project: &ProjectName,
        query: &LogQuery,
        gate: Option<Gate>,
    ) -> Result<LogStream, EngineError> {
        Ok(LogStream {
            changes: self.runtime.changes()?,
            runtime: Rc::clone(&self.runtime),
            project: project.clone(),
            query: query.clone(),
            follower: Follower::new().map_err(|error| log_error(&error))?,
            sources: Vec::new(),
            known: BTreeMap::new(),
            ready: VecDeque::new(),
            turns: 0,
            ends: VecDeque::new(),
            stale: Stale::Some(BTreeSet::new()),
            held_open: None,
            gate,
            closing: false,
        })
    }
}

impl LogStream {
    /// Returns the next line; `None` at the end: of what is there, or with `follow` when all containers have ended.
    pub async fn next(&mut self) -> Result<Option<LogLine>, EngineError> {
        // A container that never stops writing would keep everybody else waiting: interrupts too.
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(64) {
            tokio::task::yield_now().await;
        }
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            if self.take_earliest()? {
                continue;
            }
            // Once nothing follows it, a line without its end is a line.
            if let Some((index, end)) = self.ends.pop_front() {
                self.take_unfinished(index..index + 1);
                self.ready.push_back(end);
                continue;
            }
            if !self.query.follow {
                return Ok(None);
            }
            if self.take_news()? {
                continue;
            }
            if self.closing || self.is_over() {
                self.take_unfinished(0..self.sources.len());
                return Ok(self.ready.pop_front());
            }
            self.wait().await?;
        }
    }

    /// Keeps the stream from ending with the last container until `until` is cancelled: somebody may start them again.
    pub fn hold_open(&mut self, until: Cancel) {
        self.held_open = Some(until);
    }

    /// Looks at what may have changed; false where nothing has.
    fn take_news(&mut self) -> Result<bool, EngineError> {
        if let Some(gate) = self.gate.clone().filter(Gate::has_news) {
            for id in gate.shared.admitted.take() {
                self.look_at(&id, true)?;
            }
            match gate.shared.position.get() {
                Position::Shut => {}
                Position::Open => {
                    self.look(true)?;
                    self.stale = Stale::Some(BTreeSet::new());
                    self.gate = None;
                }
                Position::Closed => {
                    self.closing = true;
                    self.gate = None;
                    for id in self.known.keys().cloned().collect::<Vec<_>>() {
                        self.look_at(&id, false)?;
                    }
                    self.sources
                        .iter_mut()
                        .for_each(|source| source.more = true);
                }
            }
            return Ok(true);
        }
        match std::mem::replace(&mut self.stale, Stale::Some(BTreeSet::new())) {
            Stale::Some(ids) if ids.is_empty() => Ok(false),
            Stale::Some(ids) => {
                for id in &ids {
                    // Behind a gate, others are none of ours yet; after it has closed, any more.
                    if (self.gate.is_none() && !self.closing) || self.known.contains_key(id) {
                        self.look_at(id, false)?;
                    }
                }
                Ok(true)
            }
            Stale::All if self.gate.is_some() || self.closing => {
                for id in self.known.keys().cloned().collect::<Vec<_>>() {
                    self.look_at(&id, false)?;
                }
                Ok(true)
            }
            Stale::All => self.look(false).map(|()| true),
        }
    }

    /// Whether all containers that matter have ended, and none of them may come back.
    fn is_over(&self) -> bool {
        let until = &self.query.until;
        let matters = |source: &&Source| until.is_empty() || until.contains(&source.service);
        self.gate.is_none()
            && !self.is_held_open()
            && self
                .sources
                .iter()
                .filter(matters)
                .all(|source| source.over)
    }

    fn is_held_open(&self) -> bool {
        self.held_open
            .as_ref()
            .is_some_and(|until| !until.is_cancelled())
    }

    /// Moves the unfinished lines of these sources to `ready`.
    fn take_unfinished(&mut self, sources: std::ops::Range<usize>) {
        for source in self.sources.get(sources).unwrap_or_default() {
            for entry in self.follower.finish(source.reader) {
                self.ready.push_back(source.text(entry));
            }
        }
    }

    /// Moves the earliest entry of all buffers to `ready`; false when there is none.
    fn take_earliest(&mut self) -> Result<bool, EngineError> {
        for source in &mut self.sources {
            while source.buffer.is_empty() && source.more {
                let mut entries = Vec::new();
                source.more = self
                    .follower
                    .read(source.reader, &mut entries)
                    .map_err(|error| log_error(&error))?;
                source.buffer.extend(entries);
            }
            // Nobody will read on: what is unfinished stays so, and has its place in the order.
            if source.buffer.is_empty() && !source.more && !self.query.follow {
                source.buffer.extend(self.follower.finish(source.reader));
            }
        }
        let heads = self.sources.iter().enumerate();
        let heads = heads
            .filter_map(|(index, source)| source.buffer.front().map(|entry| (entry.at, index)));
        let Some((_, index)) = heads.min() else {
            return Ok(self.sources.iter().any(|source| source.more));
        };
        if let Some(source) = self.sources.get_mut(index)
            && let Some(entry) = source.buffer.pop_front()
        {
            self.ready.push_back(source.text(entry));
        }
        Ok(true)
    }

    /// Waits until a log has grown or a container has changed.
    async fn wait(&mut self) -> Result<(), EngineError> {
        let failed = |source| EngineError::System {
            attempted: "follow the logs".to_owned(),
            source,
        };
        tokio::select! {
            grown = readable(&self.follower) => grown.map_err(failed)?,
            changed = readable(&self.changes) => changed.map_err(failed)?,
            () = let_go(self.held_open.as_ref()), if self.is_held_open() => {}
            () = turned(self.gate.as_ref()) => {}
        }
        for reader in self.follower.grown().map_err(|error| log_error(&error))? {
            for source in self
                .sources
                .iter_mut()
                .filter(|source| source.reader == reader)
            {
                source.more = true;
            }
        }
        // An end is written after the last line: the lines are read before the end is looked at.
        match (self.changes.take().map_err(failed)?, &mut self.stale) {
            (Some(ids), _) if ids.is_empty() => {}
            (Some(ids), Stale::Some(stale)) => {
                for id in ids {
                    if let Some(source) = self.known.get(&id).and_then(|i| self.sources.get_mut(*i))
                    {
                        source.more = true;
                    }
                    stale.insert(id);
                }
            }
            (Some(_) | None, stale) => {
                *stale = Stale::All;
                self.sources
                    .iter_mut()
                    .for_each(|source| source.more = true);
            }
        }
        Ok(())
    }

    /// Looks at the containers: new ones are followed, ends are told (not those from before the first look).
    fn look(&mut self, first: bool) -> Result<(), EngineError> {
        let containers = self.runtime.list()?;
        for source in &mut self.sources {
            source.over = true;
        }
        for container in &containers {
            self.see(container, first)?;
        }
        Ok(())
    }

    /// Looks at one container.
    fn look_at(&mut self, id: &ContainerId, first: bool) -> Result<(), EngineError> {
        match self.runtime.get(id) {
            Ok(container) => self.see(&container, first),
            Err(crate::runtime::RuntimeError::NotFound(_)) => {
                if let Some(source) = self.known.get(id).and_then(|i| self.sources.get_mut(*i)) {
                    source.over = true;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes in how a container is: one that is asked for is followed, its end is told.
    fn see(&mut self, container: &Container, first: bool) -> Result<(), EngineError> {
        if !self.wanted(container) {
            return Ok(());
        }
        let index = match self.known.get(container.id()) {
            Some(index) => *index,
            None => self.follow(container, first)?,
        };
        if let Some(source) = self.sources.get_mut(index) {
            // `logs -f` tells ends from now on; an attached `up` all of them.
            if let Some(end) = source.end(container)
                && (!first || self.query.past_ends)
            {
                // What it wrote before it ended comes first.
                source.more = true;
                self.ends.push_back((index, end));
            }
        }
        Ok(())
    }

    /// Begins to follow a container; those that come later are read from their beginning.
    fn follow(&mut self, container: &Container, first: bool) -> Result<usize, EngineError> {
        let nanoseconds = |time: Option<i128>| {
            time.and_then(|time| i64::try_from(time).ok())
                .map(Timestamp)
        };
        let options = ReadOptions {
            tail: self.query.tail.filter(|_| first),
            since: nanoseconds(self.query.since_ns),
            until: nanoseconds(self.query.until_ns),
            ..ReadOptions::ALL
        };
        let reader = self
            .runtime
            .logs()
            .open(container.id(), options)
            .map_err(|error| log_error(&error))?;
        let reader = self
            .follower
            .add(reader)
            .map_err(|error| log_error(&error))?;
        let label = |name: &str| {
            container
                .config()
                .labels
                .get(name)
                .cloned()
                .unwrap_or_default()
        };
        self.sources.push(Source {
            container: container.config().name.clone(),
            service: label(naming::SERVICE),
            number: label(naming::NUMBER).parse().unwrap_or(1),
            reader,
            buffer: VecDeque::new(),
            more: true,
            told: None,
            over: false,
        });
        let index = self.sources.len() - 1;
        self.known.insert(container.id().clone(), index);
        Ok(index)
    }

    /// Whether a container's lines are asked for.
    fn wanted(&self, container: &Container) -> bool {
        let labels = &container.config().labels;
        let service = labels
            .get(naming::SERVICE)
            .map(String::as_str)
            .unwrap_or_default();
        labels
            .get(naming::PROJECT)
            .is_some_and(|name| name == self.project.as_str())
            && (self.query.services.is_empty()
                || self.query.services.iter().any(|wanted| wanted == service))
    }
}

impl Source {
    /// Makes a line of what the container wrote.
    fn text(&self, entry: Entry) -> LogLine {
        self.line(LogKind::Text {
            time: rfc3339(entry.at),
            stderr: entry.stream == Stream::Stderr,
            text: entry.text,
        })
    }

    /// Makes a line of this container.
    fn line(&self, kind: LogKind) -> LogLine {
        LogLine {
            container: self.container.clone(),
            service: self.service.clone(),
            number: self.number,
            kind,
        }
    }

    /// Notes whether the container has ended; returns the line that tells it, once for each end.
    fn end(&mut self, container: &Container) -> Option<LogLine> {
        let (exit, restarting) = match &container.status {
            Status::Exited(exit) => (*exit, false),
            Status::Restarting { last, .. } => (*last, true),
            Status::Created { .. } | Status::Running { .. } | Status::Removing => {
                self.over = matches!(
                    container.status,
                    Status::Created { error: Some(_) } | Status::Removing
                );
                return None;
            }
        };
        self.over = !restarting;
        if self.told == Some(exit) {
            return None;
        }
        self.told = Some(exit);
        let code = (!exit.unknown).then_some(exit.code);
        Some(self.line(LogKind::Exited { code, restarting }))
    }
}

/// Renders a time as RFC 3339 in UTC with nine digits of nanoseconds.
fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at.0))
        .map_or_else(|_| at.0.to_string(), |time| format!("{time:.9}"))
}

fn log_error(error: &crate::runtime::logs::LogError) -> EngineError {
    EngineError::System {
        attempted: "read the logs".to_owned(),
        source: std::io::Error::other(crate::engine::chain(error)),
    }
}

/// Returns when something has happened to a gate; never where there is none.
async fn turned(gate: Option<&Gate>) {
    match gate {
        Some(gate) => gate.changed().await,
        None => std::future::pending().await,
    }
}

/// Returns when a stream that is held open no longer is.
async fn let_go(held: Option<&Cancel>) {
    match held {
        Some(until) => until.cancelled().await,
        None => std::future::pending().await,
    }
}
