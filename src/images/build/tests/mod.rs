//! Builds with the real store, and with steps that really run: overlay and chroot in a mount namespace of their own.

use std::cell::RefCell;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::pin::Pin;

use serde_json::{Value, json};

use super::super::Images;
use super::super::manifest::ImageConfig;
use super::super::registry::ClientEnvironment;
use super::tree::{Last, Node, Tree};
use super::*;
use crate::sys::atomic::{self, Durability};

mod mounts;

/// Runs steps with `unshare`, `mount` and `chroot`.
struct Chroot;

/// Mounts the overlay, checks that the mount points are there, and runs the command as the user.
const SCRIPT: &str = r#"
_r=$1 _l=$2 _u=$3 _w=$4 _user=$5 _cwd=$6; shift 6
mount -t overlay overlay -o "lowerdir=$_l,upperdir=$_u,workdir=$_w" "$_r" || exit 125
mount --bind /proc "$_r/proc" && mount --bind /dev "$_r/dev" && mount --bind /sys "$_r/sys" || exit 125
for _f in hosts resolv.conf; do mount --bind /dev/null "$_r/etc/$_f" || exit 125; done
exec chroot ${_user:+--userspec="$_user"} "$_r" /bin/sh -c 'cd "$0" && exec "$@"' "$_cwd" "$@"
"#;

impl StepRunner for Chroot {
    fn run<'a>(
        &'a self,
        step: &'a RunStep,
        hear: &'a mut dyn FnMut(Heard<'_>),
    ) -> Pin<Box<dyn Future<Output = Result<i32, StepError>> + 'a>> {
        Box::pin(async move {
            let root = step.work.with_file_name("root");
            fs_err::create_dir(&root).unwrap();
            let lower: Vec<_> = step.layers.iter().map(|l| l.to_str().unwrap()).collect();
            // As a number: the host's own users must not be looked up.
            let user = match step.user.as_str() {
                "app" => "1001:1001",
                user => user,
            };
            #[expect(
                clippy::disallowed_methods,
                reason = "the runtime is not part of this room"
            )]
            let done = std::process::Command::new("unshare")
                .args(["-m", "--propagation", "private", "sh", "-c", SCRIPT, "sh"])
                .args([
                    &root,
                    &PathBuf::from(lower.join(":")),
                    &step.upper,
                    &step.work,
                ])
                .args([user, step.cwd.as_str()])
                .args(&step.args)
                .env_clear()
                .env("HOME", "/root")
                .envs(step.env.iter().filter_map(|pair| pair.split_once('=')))
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap();
            hear(Heard::Output(&done.stdout));
            hear(Heard::Output(&done.stderr));
            Ok(done.status.code().unwrap_or(137))
        })
    }
}

/// Remembers what a build told: `started`, `cached`, `output` and `failed`.
#[derive(Default)]
struct Told(RefCell<Vec<String>>);

impl BuildProgress for Told {
    fn event(&self, event: BuildEvent<'_>) {
        let line = match event {
            BuildEvent::Started(label) => format!("{label}"),
            BuildEvent::Cached(label) => format!("{label} (cached)"),
            BuildEvent::Output(_, line) => format!("> {}", String::from_utf8_lossy(line)),
            BuildEvent::Explained(label, why) => format!("{label}: {why}"),
            BuildEvent::Waiting(label, _) => format!("{label} (waiting)"),
            BuildEvent::Broke(label, why) => format!("{label} (failed: {why})"),
            BuildEvent::CutOff(label) => format!("{label} (canceled)"),
            BuildEvent::Failed { exit_code, .. } => format!("failed {exit_code}"),
            BuildEvent::Note(text) | BuildEvent::Warning(text) => text.to_owned(),
            BuildEvent::Lint(warning, _) => warning.to_string(),
            BuildEvent::Looking(_)
            | BuildEvent::Done(..)
            | BuildEvent::Pulling { .. }
            | BuildEvent::Stored(..) => return,
        };
        self.0.borrow_mut().push(line);
    }
}

/// A store with a `busybox` made as the conformance data's was, and a context.
struct Place {
    _temp: tempfile::TempDir,
    root: PathBuf,
    context: PathBuf,
}

impl Place {
    fn new() -> Self {
        // Overlay needs an upper directory on a file system of its own kind: not on the test machine's overlay, if /tmp is one.
        let temp = tempfile::tempdir().unwrap();
        let place = Self {
            root: temp.path().join("root"),
            context: temp.path().join("context"),
            _temp: temp,
        };
        fs_err::create_dir(&place.context).unwrap();
        let images = place.images();
        let staging = images.store().staging().unwrap();
        fill_busybox(&staging.diff());
        let layer = images.store().commit_layer(staging).unwrap().diff_id;
        let mut config = ImageConfig::new(&Platform::host());
        config.config.cmd = Some(vec!["sh".to_owned()]);
        config
            .history
            .push(super::super::manifest::History::default());
        let image = images.store().put_image(config, &[layer]).unwrap();
        let name = Reference::parse("busybox").unwrap();
        images.store().tag(&image, &name).unwrap();
        place
    }

    fn images(&self) -> Images {
        fs_err::create_dir_all(&self.root).unwrap();
        Images::open(&self.root, ClientEnvironment::system(None)).unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.context.join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        atomic::write(&path, text.as_bytes(), 0o644, Durability::Cached).unwrap();
    }

    fn request(&self, dockerfile: &str) -> BuildRequest {
        BuildRequest {
            tags: vec![Reference::parse("built").unwrap()],
            ..BuildRequest::new(
                self.context.clone(),
                DockerfileSource::Inline(dockerfile.to_owned()),
                "2026-01-02T03:04:05Z".parse().unwrap(),
            )
        }
    }

    /// Builds; returns the result and what was told.
    fn build(&self, request: &BuildRequest) -> (Result<Built, BuildError>, Vec<String>) {
        let told = Told::default();
        let built = self.build_with(request, &Chroot, &told);
        (built, told.0.into_inner())
    }

    /// Builds with somebody else's steps.
    fn build_with(
        &self,
        request: &BuildRequest,
        runner: &dyn StepRunner,
        progress: &dyn BuildProgress,
    ) -> Result<Built, BuildError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let images = self.images();
        let session = Session::default();
        runtime.block_on(images.build(request, &session, runner, progress))
    }

    /// Builds what must succeed; returns the image's tree and what was told.
    fn built(&self, dockerfile: &str) -> (Image, Vec<String>) {
        let (built, told) = self.build(&self.request(dockerfile));
        (built.unwrap().image, told)
    }

    fn tree(&self, image: &Image) -> Tree {
        Tree::layers(self.images().layer_directories(image))
    }

    /// Reads a file of an image.
    fn read(&self, image: &Image, path: &str) -> String {
        let tree = self.tree(image);
        let node = tree.resolve(Path::new(path), Last::Follow).unwrap().node;
        fs_err::read_to_string(node.unwrap().host).unwrap()
    }
}

/// Fills a root file system as `peers/mkbusybox` does, with the applets that the cases use.
fn fill_busybox(root: &Path) {
    for directory in ["bin", "etc", "tmp", "root", "var", "home", "usr"] {
        fs_err::create_dir_all(root.join(directory)).unwrap();
    }
    fs_err::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in
        "sh echo cat ls mkdir ln rm mv cp chmod chown mknod touch pwd id true head grep ip env test"
            .split(' ')
    {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    for (file, text) in [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
        ),
        ("etc/group", "root:x:0:\nnobody:x:65534:\n"),
    ] {
        atomic::write(&root.join(file), text.as_bytes(), 0o644, Durability::Cached).unwrap();
    }
    fs_err::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    fs_err::set_permissions(root.join("root"), PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn steps_are_cached_until_what_goes_into_them_changes() {
    let place = Place::new();
    place.write("a", "1");
    place.write("other", "x");
    let dockerfile = "FROM busybox\nRUN echo one > /one\nLABEL l=1\nCOPY a /a\nRUN cat /a > /b; echo said\nENV E=1\nWORKDIR /w\n";
    let (first, told) = place.built(dockerfile);
    assert_eq!(
        told,
        [
            "[1/5] FROM busybox",
            "[2/5] RUN echo one > /one",
            "[3/5] COPY a /a",
            "[4/5] RUN cat /a > /b; echo said",
            "> said",
            "[5/5] WORKDIR /w",
        ]
    );
    assert_eq!(place.read(&first, "/b"), "1");
    let all_cached = [
        "[1/5] FROM busybox",
        "[2/5] RUN echo one > /one (cached)",
        "[3/5] COPY a /a (cached)",
        "[4/5] RUN cat /a > /b; echo said (cached)",
        "[5/5] WORKDIR /w (cached)",
    ];
    place.write("other", "y");
    place.write("a", "1");
    let (again, told) = place.built(dockerfile);
    assert_eq!(
        (told, &again),
        (all_cached.map(str::to_owned).to_vec(), &first)
    );
    place.write("a", "2");
    let (changed, told) = place.built(dockerfile);
    assert_eq!(
        told[1..3],
        ["[2/5] RUN echo one > /one (cached)", "[3/5] COPY a /a"]
    );
    assert_eq!(
        (place.read(&changed, "/b"), changed.layers.len()),
        ("2".to_owned(), 5)
    );
    // A label is no input of what follows; an earlier state is still in the cache.
    place.write("a", "1");
    let (_, told) = place.built(&dockerfile.replace("l=1", "l=2"));
    assert_eq!(told, all_cached);
    let mut request = place.request(dockerfile);
    request.no_cache = true;
    let built = place.build(&request).0.unwrap();
    assert_eq!((built.steps_cached, built.steps_run), (0, 4));
}

#[test]
fn a_failing_step_is_named_with_place_code_and_output_and_leaves_nothing() {
    let place = Place::new();
    let (built, told) =
        place.build(&place.request("FROM busybox\nRUN echo a\nRUN echo why; exit 3\n"));
    let error = built.unwrap_err();
    assert_eq!(
        error.to_string(),
        "dockerfile_inline:3:1: RUN echo why; exit 3"
    );
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        source,
        "process \"/bin/sh -c echo why; exit 3\" did not complete successfully: exit code: 3"
    );
    assert_eq!(told[told.len() - 2..], ["> why", "failed 3"]);
    let left: Vec<_> = fs_err::read_dir(place.root.join("tmp"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("diff").exists())
        .collect();
    assert_eq!(left.len(), 0);
}

#[test]
fn a_large_layer_is_hashed_beside_the_next_step() {
    let place = Place::new();
    fs_err::write(place.context.join("large"), vec![7; 9 << 20]).unwrap();
    let dockerfile = "FROM busybox\nCOPY large /large\nENV E=1\nRUN cat /large /large > /two\nRUN test -s /two && echo end > /end\nCOPY large /more\n";
    let (first, _) = place.built(dockerfile);
    assert_eq!(
        (place.read(&first, "/end").as_str(), first.layers.len()),
        ("end\n", 5)
    );
    let history: Vec<_> = first.config.history.iter().skip(1).collect();
    let told: Vec<_> = history
        .iter()
        .map(|entry| {
            (
                entry.created_by.as_deref().unwrap_or_default(),
                entry.empty_layer,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("COPY large /large # buildkit", false),
            ("ENV E=1", true),
            ("RUN /bin/sh -c cat /large /large > /two # buildkit", false),
            (
                "RUN /bin/sh -c test -s /two && echo end > /end # buildkit",
                false
            ),
            ("COPY large /more # buildkit", false),
        ]
    );
    let (again, told) = place.built(dockerfile);
    assert_eq!(again, first);
    let cached = told
        .iter()
        .filter(|line| line.ends_with("(cached)"))
        .count();
    assert_eq!(cached, 4, "{told:?}");
    // What is below a step that fails is kept all the same.
    let (failed, _) = place.build(&place.request("FROM busybox\nRUN cat /bin/busybox /bin/busybox /bin/busybox /bin/busybox /bin/busybox > /x; cat /x /x > /y\nRUN false\n"));
    failed.unwrap_err();
    let (_, told) = place.built("FROM busybox\nRUN cat /bin/busybox /bin/busybox /bin/busybox /bin/busybox /bin/busybox > /x; cat /x /x > /y\n");
    assert!(told[1].ends_with("(cached)"), "{told:?}");
}

#[test]
fn mount_points_of_the_container_are_not_in_the_layer() {
    let place = Place::new();
    let (image, _) = place.built("FROM busybox\nRUN echo x > /etc/own\n");
    let layer = &place.images().layer_directories(&image)[0];
    let mut names: Vec<_> = walk_names(layer, layer);
    names.sort();
    assert_eq!(names, ["dev", "etc", "etc/own", "proc", "sys"]);
    let (image, _) = place.built("FROM busybox\nRUN true\nRUN true again\n");
    let layer = &place.images().layer_directories(&image)[0];
    assert_eq!(walk_names(layer, layer), [""; 0]);
}

fn walk_names(root: &Path, directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        names.push(path.strip_prefix(root).unwrap().display().to_string());
        if path.symlink_metadata().unwrap().is_dir() {
            names.extend(walk_names(root, &path));
        }
    }
    names
}

#[test]
fn copies_never_leave_the_image() {
    let place = Place::new();
    place.write("f", "text");
    place.write("d/g", "g");
    let outside = tempfile::tempdir().unwrap();
    let host = outside.path().display();
    let (image, _) = place.built(&format!(
        "FROM busybox\nRUN mkdir -p /usr/lib && ln -s usr/lib /lib && ln -s {host} /app && ln -s ../../../../.. /up\n\
         COPY f /lib/f\nCOPY f /app/f\nCOPY d /up/x/\nWORKDIR /app/w\n"
    ));
    assert_eq!(fs_err::read_dir(outside.path()).unwrap().count(), 0);
    for path in ["/usr/lib/f", &format!("{host}/f")] {
        assert_eq!(place.read(&image, path), "text", "{path}");
    }
    assert_eq!(place.read(&image, "/x/g"), "g");
}

#[test]
fn a_rebuilt_stage_with_the_same_result_changes_nothing_after_it() {
    let place = Place::new();
    place.write("src", "1");
    let dockerfile = "FROM busybox AS make\nCOPY src /src\nRUN echo same > /out\nFROM busybox\nCOPY --from=make /out /out\nRUN cat /out\n";
    place.built(dockerfile);
    place.write("src", "2");
    let (_, mut told) = place.built(dockerfile);
    // The stages go on at once: only the steps of one have an order.
    told.sort_by_key(|line| line.starts_with("[stage-1"));
    assert_eq!(
        told,
        [
            "[make 1/3] FROM busybox AS make",
            "[make 2/3] COPY src /src",
            "[make 3/3] RUN echo same > /out",
            "[stage-1 1/3] FROM busybox",
            "[stage-1 2/3] COPY --from=make /out /out (cached)",
            "[stage-1 3/3] RUN cat /out (cached)",
        ]
    );
}

#[test]
fn archives_are_unpacked_by_add_alone() {
    let place = Place::new();
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    for (path, target) in [
        ("in/f", None),
        ("in/.wh.x", None),
        ("link", Some("/etc")),
        ("link/evil", None),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o640);
        header.set_uid(7);
        header.set_mtime(1_000_000_000);
        if let Some(target) = target {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, path, target).unwrap();
        } else {
            header.set_size(2);
            archive.append_data(&mut header, path, &b"hi"[..]).unwrap();
        }
    }
    let bytes = archive.into_inner().unwrap().finish().unwrap();
    let path = place.context.join("a.bin");
    atomic::write(&path, &bytes, 0o644, Durability::Cached).unwrap();
    let (image, _) = place.built("FROM busybox\nADD a.bin /x\nCOPY a.bin /y\nADD a.bin /z/\n");
    let tree = place.tree(&image);
    let facts = |path: &str| {
        let node = tree.resolve(Path::new(path), Last::Keep).unwrap().node?;
        let m = node.metadata;
        Some((m.mode(), m.uid(), m.len(), m.mtime()))
    };
    let size = bytes.len() as u64;
    assert_eq!(facts("/x/in/f"), Some((0o100_640, 7, 2, 1_000_000_000)));
    assert_eq!(facts("/x/in/.wh.x").map(|f| f.2), Some(2));
    assert_eq!(facts("/y").map(|f| (f.0, f.2)), Some((0o100_644, size)));
    assert_eq!(facts("/x/etc/evil").map(|f| f.2), Some(2));
    assert!(!Path::new("/etc/evil").exists());
}

#[test]
fn two_builds_at_once_both_succeed() {
    let place = Place::new();
    place.write("a", "1");
    let dockerfile = "FROM busybox\nCOPY a /a\nRUN cat /a > /b\nRUN cat /b > /c\n";
    std::thread::scope(|scope| {
        let builds: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| place.built(dockerfile).0))
            .collect();
        for build in builds {
            assert_eq!(place.read(&build.join().unwrap(), "/c"), "1");
        }
    });
}

#[test]
fn what_is_not_done_or_not_there_is_said() {
    let place = Place::new();
    place.write("a", "1");
    place.write("b", "1");
    let table = [
        (
            "FROM busybox\nCOPY nope /x\n",
            "dockerfile_inline:2:1: \"/nope\": not found in the build context",
        ),
        (
            "FROM busybox\nCOPY https://x/y /x\n",
            "dockerfile_inline:2:1: source can't be a URL for COPY",
        ),
        (
            "FROM busybox\nRUN --device=v/c=n,required y\n",
            "dockerfile_inline:2:1: RUN --device=v/c=n,required y: required device \"v/c=n\" is not registered",
        ),
        (
            "FROM busybox\nCOPY --chown=who a /\n",
            "dockerfile_inline:2:1: COPY --chown=who a /: unable to find user `who` in `/etc/passwd` of the image",
        ),
        (
            "FROM busybox\nCOPY --chmod=9 a /\n",
            "dockerfile_inline:2:1: invalid chmod parameter: '9'. it should be octal string and between 0 and 07777",
        ),
        (
            "FROM busybox\nCOPY a /bin\nCOPY a /bin/\nCOPY a /etc/passwd/x\n",
            "dockerfile_inline:4:1: COPY a /etc/passwd/x: `/etc/passwd/x` goes through something that is not a directory",
        ),
        (
            "FROM busybox\nARG A=${B:?must}\n",
            "dockerfile_inline:2:1: B: must",
        ),
    ];
    for (dockerfile, expected) in table {
        let error = place.build(&place.request(dockerfile)).0.unwrap_err();
        let mut shown = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            shown = format!("{shown}: {error}");
            source = error.source();
        }
        assert_eq!(shown, expected);
    }
}

/// Cases of the conformance data that need what this builder does not do yet.
const NOT_YET: [&str; 2] = ["mount-bind", "network-none"];

#[test]
fn images_equal_dockers() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance/build");
    if !data.is_dir() {
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "the cases are a Python file")]
    let cases = std::process::Command::new("python3")
        .args(["-B", "-c", "import cases, json; print(json.dumps(cases.C))"])
        .current_dir(&data)
        .output()
        .unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases.stdout).unwrap();
    let expected: BTreeMap<String, Value> =
        serde_json::from_slice(&fs_err::read(data.join("expected.json")).unwrap()).unwrap();
    let mut differences = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        if !NOT_YET.contains(&name) {
            differences.extend(compare(case, &expected[name], &base_paths(&expected)));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The paths that every successful case has alike.
fn base_paths(expected: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let plain = expected["metadata"]["fs"].as_object().unwrap();
    plain.keys().cloned().collect()
}

/// Builds a case; returns what differs from Docker's result.
fn compare(case: &Value, expected: &Value, base: &BTreeSet<String>) -> Vec<String> {
    let name = case["name"].as_str().unwrap();
    let place = Place::new();
    lay_out(&place, case);
    let mut request = place.request(case["dockerfile"].as_str().unwrap());
    let args = case["args"].as_array().unwrap();
    for pair in args.chunks(2) {
        let (key, value) = pair[1].as_str().unwrap().split_once('=').unwrap();
        request.args.insert(key.to_owned(), Some(value.to_owned()));
    }
    let (built, told) = place.build(&request);
    let fails = expected["fails"] == json!(true);
    let image = match (built, fails) {
        (Err(_), true) => return Vec::new(),
        (Ok(_), true) => return vec![format!("{name}: must fail")],
        (Err(error), false) => return vec![format!("{name}: {error:?} {told:?}")],
        (Ok(built), false) => built.image,
    };
    let mut differences = Vec::new();
    let config = serde_json::to_value(&image.config.config).unwrap();
    for (key, value) in expected["config"].as_object().unwrap() {
        let got = config.get(key).unwrap_or(&Value::Null);
        if got != value {
            differences.push(format!("{name}: {key}: want {value}, got {got}"));
        }
    }
    let history = image.config.history.iter().map(|entry| entry.empty_layer);
    let history: Vec<bool> = history.collect();
    if json!(history) != expected["history"] || json!(image.layers.len()) != expected["layers"] {
        differences.push(format!(
            "{name}: history {history:?}, {} layers",
            image.layers.len()
        ));
    }
    let mut files = BTreeMap::new();
    let tree = place.tree(&image);
    list(&tree, &tree.root().unwrap(), "", &mut files);
    let wanted = expected["fs"].as_object().unwrap();
    let paths: BTreeSet<&String> = files.keys().chain(wanted.keys()).collect();
    for path in paths {
        let (mut got, want) = (files.get(path).cloned(), wanted.get(path));
        // The reader of Docker's archive takes the whiteout `.wh.d` for a file `wh.d`, and so keeps `d`.
        let misread = name == "delete-and-opaque" && (path == "/wh.d" || path.starts_with("/d"));
        let applet = base.contains(path) && got.is_none();
        if let Some(Value::Object(facts)) = &mut got
            && want.is_some_and(|want| want.get("mtime").is_none())
        {
            facts.remove("mtime");
        }
        if !misread && !applet && got.as_ref() != want {
            differences.push(format!("{name}: {path}: want {want:?}, got {got:?}"));
        }
    }
    differences
}

/// Writes the files of a case.
fn lay_out(place: &Place, case: &Value) {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    for (path, value) in case["files"].as_object().unwrap() {
        let (text, mode) = match value {
            Value::Array(pair) => (
                pair[0].as_str().unwrap(),
                u32::try_from(pair[1].as_u64().unwrap()).unwrap(),
            ),
            text => (text.as_str().unwrap(), 0o644),
        };
        place.write(path, text);
        let path = place.context.join(path);
        fs_err::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let file = fs_err::OpenOptions::new().append(true).open(&path).unwrap();
        file.file().set_modified(time).unwrap();
    }
    if let Some(ignore) = case["ignore"].as_str() {
        place.write(".dockerignore", ignore);
    }
}

/// Lists a tree as `imagefs.py` does.
fn list(tree: &Tree, directory: &Node, path: &str, files: &mut BTreeMap<String, Value>) {
    for (name, node) in tree.children(directory).unwrap() {
        let path = format!("{path}/{}", name.display());
        let m = &node.metadata;
        let mut facts = json!({
            "mode": format!("0o{:o}", m.mode() & 0o7777),
            "own": format!("{}:{}", m.uid(), m.gid()),
        });
        let kind = m.file_type();
        if kind.is_dir() {
            facts["t"] = json!("dir");
            list(tree, &node, &path, files);
        } else if kind.is_symlink() {
            facts["t"] = json!("link");
            facts["mode"] = json!("-");
            facts["to"] = json!(fs_err::read_link(&node.host).unwrap());
        } else if kind.is_fifo() {
            facts["t"] = json!("fifo");
        } else {
            let bytes = fs_err::read(&node.host).unwrap();
            facts["t"] = json!("file");
            facts["sha"] = json!(Digest::of(&bytes).hex()[..16]);
            facts["size"] = json!(bytes.len());
            facts["mtime"] = json!(m.mtime());
        }
        files.insert(path, facts);
    }
}
