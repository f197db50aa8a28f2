//! The tree of a Dockerfile: stages of instructions. Variables are not expanded and quotes not removed here, since what they
//! mean depends on the step's environment.

use super::Span;
pub use super::mount::{Device, MountFlag, RunNetwork, RunSecurity};

/// A parsed Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// As shown in messages.
    pub path: std::path::PathBuf,
    /// The whole text.
    pub text: String,
    /// The escape character: `\` or `` ` ``.
    pub escape: char,
    /// What the `check` directive says.
    pub check: Option<(String, Span)>,
    /// How each instruction is written, `FROM` and those before it included, in order.
    pub written: Vec<Written>,
    /// `ARG`s before the first `FROM`.
    pub arguments: Vec<Argument>,
    /// At least one.
    pub stages: Vec<Stage>,
}

/// How an instruction is written: what its meaning does not depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its span, as the tree has it.
    pub span: Span,
    /// The keyword, in its own letters.
    pub keyword: String,
    /// What follows the keyword, flags included, its lines joined.
    pub rest: String,
    /// The comments right above it.
    pub comments: Vec<String>,
    /// Where an empty line stands among its lines.
    pub empty_line: Option<Span>,
    /// Whether it is `ENV name value` or `LABEL name value`.
    pub is_legacy_pair: bool,
}

/// One stage: `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The image or earlier stage it starts from, unexpanded.
    pub base: String,
    /// `--platform`, unexpanded.
    pub platform: Option<String>,
    /// `AS name`, in lower case.
    pub name: Option<String>,
    /// Of the `FROM` instruction.
    pub span: Span,
    /// The `FROM` instruction on one line, for messages.
    pub text: String,
    /// In order.
    pub instructions: Vec<Instruction>,
}

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub kind: Kind,
    /// From the keyword to the end of its last line.
    pub span: Span,
    /// The instruction on one line, for messages.
    pub text: String,
}

/// What an instruction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `ENV`
    Env(Vec<(String, String)>),
    /// `LABEL`
    Label(Vec<(String, String)>),
    /// `ARG`
    Arg(Vec<Argument>),
    /// `COPY`
    Copy(Transfer),
    /// `ADD`
    Add(Transfer),
    /// `RUN`
    Run(Run),
    /// `WORKDIR`
    Workdir(String),
    /// `USER`
    User(String),
    /// `EXPOSE`
    Expose(Vec<String>),
    /// `CMD`
    Cmd(Command),
    /// `ENTRYPOINT`
    Entrypoint(Command),
    /// `SHELL`
    Shell(Vec<String>),
    /// `VOLUME`
    Volume(Vec<String>),
    /// `STOPSIGNAL`
    StopSignal(String),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `ONBUILD`: the text of the trigger, on one line but for its here-documents, which follow it.
    Onbuild(String),
    /// `MAINTAINER`
    Maintainer(String),
}

/// One name of `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// As written, unexpanded.
    pub name: String,
    /// After `=`, unexpanded.
    pub default: Option<String>,
    /// Of the instruction.
    pub span: Span,
}

/// `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transfer {
    /// Paths or patterns, unexpanded.
    pub sources: Vec<String>,
    /// Files given in the Dockerfile itself.
    pub documents: Vec<Document>,
    /// Unexpanded.
    pub destination: String,
    /// `--from`: a stage's name or number, or an image. Never expanded.
    pub from: Option<String>,
    /// `--chown`, unexpanded.
    pub chown: Option<String>,
    /// `--chmod`, unexpanded.
    pub chmod: Option<String>,
    /// `--link`: a promise that the layers below do not matter, so that the step is cached whatever they are.
    pub link: bool,
    /// `--exclude` patterns, never expanded.
    pub exclude: Vec<String>,
    /// `COPY --parents`: the directories that lead to a source are kept, those after `/./` if the source has that.
    pub parents: bool,
    /// `ADD --checksum`, unexpanded: of the one URL or commit.
    pub checksum: Option<String>,
    /// `ADD --keep-git-dir`; `None` where the source may say.
    pub keep_git_dir: Option<bool>,
    /// `ADD --unpack`; `None` unpacks archives of the context and no others.
    pub unpack: Option<bool>,
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its delimiter.
    pub name: String,
    /// Its body, as written.
    pub body: String,
    /// Whether variables in it are expanded: the delimiter was not quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are dropped.
    pub strip_tabs: bool,
}

impl Document {
    /// Returns the body, without leading tabs where `<<-` asks for that.
    pub fn content(&self) -> String {
        if !self.strip_tabs {
            return self.body.clone();
        }
        self.body
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }
}

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Given to the stage's shell.
    Shell(String),
    /// Executed as it stands.
    Exec(Vec<String>),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command, without here-documents.
    pub command: Command,
    /// Here-documents of the shell form.
    pub documents: Vec<Document>,
    /// `--mount`s, in order; see [`super::mount::Mount::parse`].
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: RunNetwork,
    /// `--security`.
    pub security: RunSecurity,
    /// `--device`s, in order.
    pub devices: Vec<Device>,
}

impl Run {
    /// Returns the only here-document of a command that is nothing else: it is the script itself.
    pub fn script(&self) -> Option<&Document> {
        let (Command::Shell(text), [document]) = (&self.command, self.documents.as_slice()) else {
            return None;
        };
        super::lexer::parse_opening(text)?;
        Some(document)
    }
}

/// `HEALTHCHECK`; durations in nanoseconds, 0 where unset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    /// `None` for `HEALTHCHECK NONE`.
    pub command: Option<Command>,
    /// `--interval`
    pub interval_ns: i64,
    /// `--timeout`
    pub timeout_ns: i64,
    /// `--start-period`
    pub start_period_ns: i64,
    /// `--start-interval`
    pub start_interval_ns: i64,
    /// `--retries`
    pub retries: i64,
}

impl Healthcheck {
    /// `HEALTHCHECK NONE`
    pub const NONE: Self = Self {
        command: None,
        interval_ns: 0,
        timeout_ns: 0,
        start_period_ns: 0,
        start_interval_ns: 0,
        retries: 0,
    };
}
