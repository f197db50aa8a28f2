//! `RUN --mount=type=ssh`: a socket of the step's own before an ssh agent of whoever builds.
//!
//! A step may list keys and sign with them, and nothing else: it can neither add keys to the agent, nor remove or lock them (message
//! numbers: draft-ietf-sshm-ssh-agent, section 6.1).

use std::io;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::sys::sockets::ShortPath;

/// `SSH_AGENTC_REQUEST_IDENTITIES` and `SSH_AGENTC_SIGN_REQUEST`.
const ALLOWED: [u8; 2] = [11, 13];
/// `SSH_AGENT_FAILURE`.
const FAILURE: u8 = 5;
/// The longest message (OpenSSH `AGENT_MAX_LEN`).
const MAX_BYTES: usize = 256 * 1024;

/// A socket that a step sees.
pub(super) struct Agent {
    listener: UnixListener,
    upstream: PathBuf,
    /// Where it is on the machine.
    pub(super) path: PathBuf,
}

impl Agent {
    /// Makes the socket `name` in `directory` for the agent at `upstream`.
    pub(super) fn new(
        directory: &Path,
        name: &str,
        upstream: &Path,
        (uid, gid, mode): (u32, u32, u32),
    ) -> io::Result<Self> {
        let path = directory.join(name);
        match fs_err::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(ShortPath::of(&path)?.path())?;
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(CWD, &path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(mode & 0o7777))?;
        Ok(Self {
            listener,
            upstream: upstream.to_owned(),
            path,
        })
    }

    /// Serves until it is dropped.
    async fn serve(&self) -> io::Result<std::convert::Infallible> {
        let mut clients = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => clients.push(relay(accepted?.0, &self.upstream)),
                // A client that breaks off hurts nobody else.
                Some(_ended) = clients.next(), if !clients.is_empty() => {}
            }
        }
    }
}

/// Serves all of them; never ends well.
pub(super) async fn serve(agents: &[Agent]) -> io::Result<std::convert::Infallible> {
    let mut serving: FuturesUnordered<_> = agents.iter().map(Agent::serve).collect();
    match serving.next().await {
        Some(ended) => ended,
        None => std::future::pending().await,
    }
}

/// Passes on what a client may ask for.
async fn relay(mut client: UnixStream, upstream: &Path) -> io::Result<()> {
    let upstream = ShortPath::of(upstream)?;
    let mut agent = UnixStream::connect(upstream.path()).await?;
    while let Some(request) = read(&mut client).await? {
        let answer = if request.first().is_some_and(|kind| ALLOWED.contains(kind)) {
            write(&mut agent, &request).await?;
            let answer = read(&mut agent).await?;
            answer.ok_or(io::ErrorKind::UnexpectedEof)?
        } else {
            vec![FAILURE]
        };
        write(&mut client, &answer).await?;
    }
    Ok(())
}

/// Reads one message; `None` at the end.
async fn read(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u32().await {
        Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MAX_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// Writes one message.
async fn write(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_u32(length).await?;
    stream.write_all(message).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_list_and_sign_and_nothing_else() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let temp = tempfile::tempdir().unwrap();
            let upstream = temp.path().join("upstream");
            let real = UnixListener::bind(&upstream).unwrap();
            let agent = Agent::new(temp.path(), "0", &upstream, (0, 0, 0o600)).unwrap();
            let path = agent.path.clone();
            let heard = async {
                let (mut stream, _) = real.accept().await.unwrap();
                let mut heard = Vec::new();
                while let Some(message) = read(&mut stream).await.unwrap() {
                    heard.push(message[0]);
                    write(&mut stream, &[message[0] + 1]).await.unwrap();
                }
                heard
            };
            let asked = async {
                let mut client = UnixStream::connect(&path).await.unwrap();
                let mut answers = Vec::new();
                for kind in [11, 17, 13, 19, 22] {
                    write(&mut client, &[kind]).await.unwrap();
                    answers.push(read(&mut client).await.unwrap().unwrap()[0]);
                }
                answers
            };
            let agents = [agent];
            tokio::select! {
                both = async { tokio::join!(heard, asked) } => {
                    assert_eq!(both, (vec![11, 13], vec![12, FAILURE, 14, FAILURE, FAILURE]));
                }
                ended = serve(&agents) => panic!("{ended:?}"),
            }
        });
    }
}
