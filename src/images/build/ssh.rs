//! Keys of whoever builds, in an ssh agent of the build's own: the machine's `ssh-agent`, which ends with the build, also where that is
//! killed.
//!
//! ```text
//! <run>/steps/<id>/keys     its socket, 0600
//! ```
//!
//! A key goes from its file into the agent through a pipe, and nowhere else. Steps and git see the agent as they would see any.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;

use crate::sys::child::{self, Running};

/// The socket in its directory.
const SOCKET: &str = "keys";
/// Bytes of the largest key file that is read (docker/buildx).
const MAX_KEY: u64 = 100 * 1024;
/// Bytes of a program's complaint that are kept.
const COMPLAINT: u64 = 4096;

/// Where the keys of an id are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentSource {
    /// In an agent that runs, at this socket.
    Socket(PathBuf),
    /// In these files.
    Keys(Vec<PathBuf>),
}

/// Keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file.
    #[error("read the key `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Not what it should be.
    #[error("failed to parse `{}`: {why}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// OpenSSH is missing.
    #[error(
        "key files need the programs `ssh-agent` and `ssh-add`: `{0}` is not installed; without them, give the socket of an agent that has the keys"
    )]
    NoProgram(&'static str),
    /// A program.
    #[error("run `{program}`")]
    Program {
        /// Which.
        program: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The agent does not come up.
    #[error("`ssh-agent` ended: {0}")]
    Agent(String),
}

/// An agent that has keys; dropped, it ends.
#[derive(Debug)]
pub struct KeyAgent {
    child: Child,
    /// Where it listens.
    pub socket: PathBuf,
}

impl KeyAgent {
    /// Starts an agent in `directory` and gives it the keys of these files.
    pub async fn start(directory: &Path, keys: &[PathBuf]) -> Result<Self, KeyError> {
        let texts = keys.iter().map(|path| Ok((path, read(path)?)));
        let texts = texts.collect::<Result<Vec<_>, KeyError>>()?;
        let mut command = program("ssh-agent", directory);
        // The agent binds below its working directory: an address has 108 bytes, a root may have more.
        command
            .args(["-D", "-s", "-a", SOCKET])
            .stdin(Stdio::null());
        child::end_with_parent(&mut command);
        let mut agent = Self {
            child: spawn(&mut command, "ssh-agent")?,
            socket: directory.join(SOCKET),
        };
        agent.wait_until_it_listens().await?;
        for (path, text) in texts {
            add(directory, path, &text).await?;
        }
        Ok(agent)
    }

    /// Waits for the line that says where it listens.
    async fn wait_until_it_listens(&mut self) -> Result<(), KeyError> {
        let failed = |source| KeyError::Program {
            program: "ssh-agent",
            source,
        };
        if let Some(output) = self.child.stdout.take() {
            let pipe = Receiver::from_owned_fd(OwnedFd::from(output)).map_err(failed)?;
            let mut line = String::new();
            BufReader::new(pipe)
                .read_line(&mut line)
                .await
                .map_err(failed)?;
            if line.starts_with("SSH_AUTH_SOCK=") {
                return Ok(());
            }
        }
        // One that still runs would say nothing, and keep us waiting.
        self.child.kill().map_err(failed)?;
        let mut complaint = String::new();
        if let Some(errors) = self.child.stderr.take() {
            let mut errors = errors.take(COMPLAINT);
            errors.read_to_string(&mut complaint).map_err(failed)?;
        }
        Err(KeyError::Agent(on_one_line(complaint.as_bytes())))
    }
}

impl Drop for KeyAgent {
    fn drop(&mut self) {
        // Gone already is as good.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
        let _removed = fs_err::remove_file(&self.socket);
    }
}

/// Gives the agent in `directory` a key.
async fn add(directory: &Path, path: &Path, text: &[u8]) -> Result<(), KeyError> {
    let name = "ssh-add";
    let failed = |source| KeyError::Program {
        program: name,
        source,
    };
    let mut command = program(name, directory);
    command
        .args(["-q", "-"])
        .env("SSH_AUTH_SOCK", SOCKET)
        // Nobody is asked for anything.
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env("SSH_ASKPASS", "/bin/false")
        .stdin(Stdio::piped());
    let mut child = spawn(&mut command, name)?;
    let input = child.stdin.take();
    // From here on it ends with whoever waits for it.
    let mut child = Running::new(child, COMPLAINT);
    if let Some(mut input) = input {
        match input.write_all(text) {
            // It has seen enough, and says what it thinks of it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written.map_err(failed)?,
        }
    }
    let ended = child.end().await.map_err(failed)?;
    if ended.status.success() {
        return Ok(());
    }
    Err(KeyError::Parse {
        path: path.to_owned(),
        why: on_one_line(&ended.complaint),
    })
}

/// Reads a private key that needs no passphrase.
fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let failed = |source| KeyError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    let file = fs_err::File::open(path).map_err(failed)?;
    file.take(MAX_KEY).read_to_end(&mut text).map_err(failed)?;
    match fault(&String::from_utf8_lossy(&text)) {
        None => Ok(text),
        Some(why) => Err(KeyError::Parse {
            path: path.to_owned(),
            why: why.to_owned(),
        }),
    }
}

/// Returns what is wrong with the text of a key; `golang.org/x/crypto/ssh` says the same in fewer words.
fn fault(text: &str) -> Option<&'static str> {
    const LOCKED: &str = "ssh: this private key is passphrase protected: add it to an agent with `ssh-add`, and give `--ssh default`";
    let begin = text
        .find("-----BEGIN ")
        .map(|at| text.get(at..).unwrap_or_default());
    let Some(pem) = begin else {
        return Some("ssh: no key found");
    };
    let (label, body) = pem.split_once('\n').unwrap_or((pem, ""));
    if label.contains("PUBLIC KEY") {
        return Some("ssh: it is a public key, and the private one is wanted");
    }
    if label.contains("ENCRYPTED") || body.contains("Proc-Type: 4,ENCRYPTED") {
        return Some(LOCKED);
    }
    if !label.contains("OPENSSH") {
        return None;
    }
    let body = body.split("-----END").next().unwrap_or_default();
    let body: String = body.split_whitespace().collect();
    match STANDARD.decode(body) {
        Ok(bytes) => (cipher(&bytes)? != b"none").then_some(LOCKED),
        Err(_) => Some("ssh: invalid openssh private key format"),
    }
}

/// Returns what a key is encrypted with (OpenSSH `PROTOCOL.key`).
fn cipher(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[expect(
    clippy::disallowed_methods,
    reason = "OpenSSH keeps the keys: nothing of ours signs with them"
)]
fn program(name: &'static str, directory: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(OsStr::new(name));
    command
        .current_dir(directory)
        .env("LC_ALL", "C")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    command
}

fn spawn(command: &mut Command, program: &'static str) -> Result<Child, KeyError> {
    command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => KeyError::NoProgram(program),
        _ => KeyError::Program { program, source },
    })
}

fn on_one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join("; ");
    joined.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `ssh-keygen`; returns the file.
    fn key(directory: &Path, name: &str, options: &[&str]) -> PathBuf {
        let path = directory.join(name);
        let mut command = program("ssh-keygen", directory);
        let made = command.args(["-q", "-f", name]).args(options).output();
        assert!(made.unwrap().status.success(), "{name}");
        path
    }

    fn start(directory: &Path, keys: &[PathBuf]) -> Result<KeyAgent, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let started = runtime.unwrap().block_on(KeyAgent::start(directory, keys));
        started.map_err(|error| error.to_string())
    }

    #[test]
    fn keys_are_in_an_agent_that_ends_with_the_build() {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt};
        let temp = tempfile::tempdir().unwrap();
        // Longer than an address of a socket can be.
        let directory = temp.path().join("d".repeat(120));
        fs_err::create_dir(&directory).unwrap();
        let keys = [
            key(temp.path(), "a", &["-t", "ed25519", "-N", ""]),
            key(
                temp.path(),
                "b",
                &["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""],
            ),
            key(temp.path(), "c", &["-t", "ecdsa", "-m", "PKCS8", "-N", ""]),
        ];
        // Docker asks nobody who else may read a key.
        fs_err::set_permissions(&keys[0], PermissionsExt::from_mode(0o644)).unwrap();
        let agent = start(&directory, &keys).unwrap();
        let metadata = fs_err::metadata(&agent.socket).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
        let mut list = program("ssh-add", &directory);
        let listed = list
            .arg("-l")
            .env("SSH_AUTH_SOCK", SOCKET)
            .output()
            .unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert_eq!(listed.lines().count(), 3, "{listed}");
        let (pid, socket) = (agent.child.id(), agent.socket.clone());
        drop(agent);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(!socket.exists());
    }

    #[test]
    fn keys_that_cannot_be_used_are_named() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        key(temp.path(), "new", &["-t", "ed25519", "-N", "secret"]);
        key(
            temp.path(),
            "old",
            &["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "secret"],
        );
        key(
            temp.path(),
            "pkcs8",
            &["-t", "ecdsa", "-m", "PKCS8", "-N", "secret"],
        );
        fs_err::write(path("text"), "hello\n").unwrap();
        let broken = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        fs_err::write(path("broken"), broken).unwrap();
        let locked = "ssh: this private key is passphrase protected";
        for (name, expected) in [
            ("new", locked),
            ("old", locked),
            ("pkcs8", locked),
            ("new.pub", "ssh: no key found"),
            ("text", "ssh: no key found"),
            ("broken", "Error loading key"),
        ] {
            let message = start(temp.path(), &[path(name)]).unwrap_err();
            let begin = format!("failed to parse `{}`: {expected}", path(name).display());
            assert!(message.starts_with(&begin), "{name}: {message}");
            assert!(!message.contains('\n'), "{message:?}");
        }
        let missing = start(temp.path(), &[path("none")]).unwrap_err();
        assert_eq!(
            missing,
            format!("read the key `{}`", path("none").display())
        );
        assert!(!path(SOCKET).exists());
    }
}
