//! What is in an image, told in it: a bill of materials, which the image of a scanner makes.
//!
//! The scanner runs as a step does, with the file system of the image at `BUILDKIT_SCAN_SOURCE` to read, and writes in-toto statements
//! into `BUILDKIT_SCAN_DESTINATION` (BuildKit `docs/attestations/sbom-protocol.md`, `frontend/attestations/sbom/sbom.go`). Build contexts and
//! other stages (`BUILDKIT_SBOM_SCAN_*`) are not scanned.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::super::manifest::Platform;
use super::super::reference::Digest;
use super::super::store::{Image, Staging};
use super::attest::Attestation;
use super::builder::Build;
use super::error::{BuildError, StepFailure};
use super::execute::HOSTNAME;
use super::step::{StepMount, StepSource};
use super::{BuildEvent, Heard, RunStep, StepLabel, run};

/// Where the scanner finds the image.
const SOURCE: &str = "/run/src/core/sbom";
/// Where it writes.
const DESTINATION: &str = "/run/out";
/// What a bill may be (`IsSBOMPredicateType`).
const KINDS: [&str; 2] = ["https://spdx.dev/Document", "https://cyclonedx.org/bom"];
/// Of one statement, as many bytes as BuildKit keeps.
const MAX_BYTES: u64 = 40 << 20;

/// Who makes a bill of materials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanner {
    /// Its image (`generator`).
    pub image: String,
    /// What it is told beside: `BUILDKIT_SCAN_<name>` and the value.
    pub settings: Vec<(String, String)>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            image: "docker/buildkit-syft-scanner:stable-1".to_owned(),
            settings: Vec::new(),
        }
    }
}

/// An in-toto statement, as far as it is kept.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    predicate: Value,
}

impl Build<'_> {
    /// Has the scanner that is asked for look at the image of these layers.
    pub(super) async fn bills(&self, layers: &[Digest]) -> Result<Vec<Attestation>, BuildError> {
        let Some(scanner) = &self.request.scanner else {
            return Ok(Vec::new());
        };
        let scanned = self.scan(scanner, layers).await;
        scanned.map_err(|source| BuildError::Scanner {
            image: scanner.image.clone(),
            source: Box::new(source),
        })
    }

    async fn scan(
        &self,
        scanner: &Scanner,
        layers: &[Digest],
    ) -> Result<Vec<Attestation>, StepFailure> {
        let stage = self.request.platform.to_string();
        let text = format!("generating sbom using {}", scanner.image);
        let label = StepLabel {
            number: 1,
            total: 1,
            stage: &stage,
            stage_index: usize::MAX,
            text: &text,
        };
        let started = std::time::Instant::now();
        self.progress.event(BuildEvent::Started(label));
        let platform = Platform::host().to_string();
        let image = self.image(&scanner.image, Some(&platform)).await?;
        let staging = self.store().staging()?;
        let out = staging.directory().join("out");
        fs_err::create_dir(&out)?;
        let mounts = vec![
            mount(SOURCE, self.seen(layers, staging.directory())?, true),
            mount(DESTINATION, StepSource::Host(out.clone()), false),
            mount("/tmp", StepSource::Tmpfs(None), false),
        ];
        let step = self.step_of(scanner, &image, (&staging, mounts))?;
        self.run_scanner(&step, label).await?;
        let bills = read_all(&out)?;
        self.progress
            .event(BuildEvent::Done(label, started.elapsed()));
        Ok(bills)
    }

    /// Makes of a scanner's image the step that it is.
    fn step_of(
        &self,
        scanner: &Scanner,
        image: &Image,
        (staging, mounts): (&Staging, Vec<StepMount>),
    ) -> Result<RunStep, StepFailure> {
        let config = &image.config.config;
        let mut args = config.entrypoint.clone().unwrap_or_default();
        args.extend(config.cmd.clone().unwrap_or_default());
        if args.is_empty() {
            return Err(StepFailure::Invalid("the scanner's image names no command"));
        }
        let mut env = config.env.clone();
        env.push(format!("BUILDKIT_SCAN_DESTINATION={DESTINATION}"));
        env.push(format!("BUILDKIT_SCAN_SOURCE={SOURCE}"));
        let settings = scanner.settings.iter();
        env.extend(settings.map(|(name, value)| format!("BUILDKIT_SCAN_{name}={value}")));
        let mut lowers = self.directories(&image.layers);
        let points = staging.directory().join("mount-points");
        let targets = mounts.iter().map(|m| (m.target.clone().into(), true));
        let targets: Vec<(PathBuf, bool)> = targets.collect();
        if run::make_mount_points(&staging.diff(), &points, &lowers, &targets)? {
            lowers.insert(0, points);
        }
        let cwd = Some(config.working_dir.clone()).filter(|cwd| !cwd.is_empty());
        Ok(RunStep {
            layers: lowers,
            upper: staging.diff(),
            work: staging.work(),
            args,
            env,
            secret_env: Vec::new(),
            cwd: cwd.unwrap_or_else(|| "/".to_owned()),
            user: config.user.clone(),
            mounts,
            network: self.request.network.clone(),
            insecure: false,
            devices: Vec::new(),
            hostname: HOSTNAME.to_owned(),
            requirements: self.request.requirements.clone(),
        })
    }

    async fn run_scanner(&self, step: &RunStep, label: StepLabel<'_>) -> Result<(), StepFailure> {
        let mut hear_line = |line: &[u8]| self.progress.event(BuildEvent::Output(label, line));
        let mut lines = run::Lines::new(&mut hear_line);
        let mut hear = |heard: Heard<'_>| match heard {
            Heard::Mounted => {}
            Heard::Output(piece) => lines.take(piece),
        };
        let exit_code = self.runner.run(step, &mut hear).await?;
        let tail = lines.finish();
        if exit_code == 0 {
            return Ok(());
        }
        Err(self.exited(step, label, (exit_code, tail)))
    }

    /// Returns the file system of an image as it is mounted.
    fn seen(&self, layers: &[Digest], scratch: &Path) -> Result<StepSource, StepFailure> {
        let mut lowers = self.directories(layers);
        if lowers.len() > 1 {
            return Ok(StepSource::Layers {
                lowers,
                scratch: None,
            });
        }
        let Some(only) = lowers.pop() else {
            let empty = scratch.join("empty");
            fs_err::create_dir(&empty)?;
            return Ok(StepSource::Host(empty));
        };
        Ok(StepSource::Host(only))
    }
}

fn mount(target: &str, source: StepSource, read_only: bool) -> StepMount {
    StepMount {
        target: target.to_owned(),
        source,
        read_only,
    }
}

/// Reads what a scanner wrote, in the order of the names.
fn read_all(directory: &Path) -> Result<Vec<Attestation>, StepFailure> {
    let entries = fs_err::read_dir(directory)?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    paths.sort();
    let bills = paths.iter().map(|path| read(path));
    let bills: Vec<Attestation> = bills.collect::<Result<_, _>>()?;
    if bills.is_empty() {
        return Err(StepFailure::Invalid(
            "the scanner wrote no bill of materials",
        ));
    }
    Ok(bills)
}

/// Reads a statement. It is a stranger's: a link of it leads nowhere, and it has an end.
fn read(path: &Path) -> Result<Attestation, StepFailure> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true);
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    options.options_mut().custom_flags(flags);
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(StepFailure::Invalid("what the scanner wrote is no file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(StepFailure::Invalid(
            "what the scanner wrote is larger than 40 MiB",
        ));
    }
    let statement: Statement = serde_json::from_slice(&bytes)
        .map_err(|_| StepFailure::Invalid("what the scanner wrote is no in-toto statement"))?;
    let kind = KINDS
        .into_iter()
        .find(|kind| *kind == statement.predicate_type);
    let kind = kind.ok_or(StepFailure::Invalid(
        "what the scanner wrote is neither an SPDX nor a CycloneDX document",
    ))?;
    Ok(Attestation::new(kind, statement.predicate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_scanner_writes_is_read_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let secret = at("secret");
        fs_err::write(&secret, "{}").unwrap();
        let good =
            r#"{"_type":"x","predicateType":"https://spdx.dev/Document","predicate":{"a":1}}"#;
        let out = at("out");
        let told = |make: &dyn Fn(&Path)| {
            fs_err::create_dir(&out).unwrap();
            make(&out);
            let read = read_all(&out).map_err(|error| error.to_string());
            fs_err::remove_dir_all(&out).unwrap();
            read.map(|bills| bills.len())
        };
        let wrong = |text: &str| Err(text.to_owned());
        assert_eq!(
            told(&|_| ()),
            wrong("the scanner wrote no bill of materials")
        );
        assert_eq!(
            told(&|out| {
                for name in ["b.spdx.json", "a.spdx.json", "notes.txt"] {
                    fs_err::write(out.join(name), good).unwrap();
                }
            }),
            Ok(2)
        );
        for text in ["", "{}", "[1]"] {
            let made = told(&|out| fs_err::write(out.join("a.json"), text).unwrap());
            assert_eq!(
                made,
                wrong("what the scanner wrote is no in-toto statement")
            );
        }
        let other = good.replace("spdx.dev", "example.com");
        assert_eq!(
            told(&|out| fs_err::write(out.join("a.json"), &other).unwrap()),
            wrong("what the scanner wrote is neither an SPDX nor a CycloneDX document")
        );
        let linked =
            told(&|out| fs_err::os::unix::fs::symlink(&secret, out.join("a.json")).unwrap());
        assert!(linked.unwrap_err().contains("failed to open file"));
        let directory = told(&|out| fs_err::create_dir(out.join("a.json")).unwrap());
        assert_eq!(directory, wrong("what the scanner wrote is no file"));
    }
}
