//! What steps are given to mount.

use std::cell::Cell;

use super::*;
use crate::sys::lock::{Lock, Mode};

/// Shows each step to a function, and runs nothing.
struct Shown<'a>(&'a dyn Fn(&RunStep));

impl StepRunner for Shown<'_> {
    fn run<'a>(
        &'a self,
        step: &'a RunStep,
        _: &'a mut dyn FnMut(Heard<'_>),
    ) -> Pin<Box<dyn Future<Output = Result<i32, StepError>> + 'a>> {
        Box::pin(async move {
            (self.0)(step);
            Ok(0)
        })
    }
}

/// Does something whenever a step begins.
struct OnStart<'a>(&'a Told, &'a dyn Fn());

impl BuildProgress for OnStart<'_> {
    fn event(&self, event: BuildEvent<'_>) {
        if matches!(event, BuildEvent::Started(_)) {
            (self.1)();
        }
        self.0.event(event);
    }
}

/// Builds, with every step shown to `look`; returns what was told.
fn told_of(place: &Place, request: &BuildRequest, look: &dyn Fn(&RunStep)) -> Vec<String> {
    let told = Told::default();
    place.build_with(request, &Shown(look), &told).unwrap();
    told.0.into_inner()
}

/// Returns the directories that are mounted whole.
fn hosts(step: &RunStep) -> Vec<PathBuf> {
    let sources = step.mounts.iter().map(|mount| &mount.source);
    let sources = sources.filter_map(|source| match source {
        StepSource::Host(path) => Some(path.clone()),
        _ => None,
    });
    sources.collect()
}

#[test]
fn a_cache_that_is_mounted_twice_is_one_and_waits_for_nobody() {
    let place = Place::new();
    for second in ["", ",sharing=locked", ",sharing=private", ",source=sub"] {
        let text = format!(
            "FROM busybox\nRUN --mount=type=cache,id=c,target=/a --mount=type=cache,id=c,target=/b{second} : {second}\n"
        );
        let count = Cell::new(0);
        told_of(&place, &place.request(&text), &|step| {
            count.set(step.mounts.len());
            let found = hosts(step);
            assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{found:?}");
            if second == ",source=sub" {
                let expected = StepSource::Inside {
                    root: found[0].clone(),
                    path: "/sub".into(),
                    is_directory: true,
                };
                assert_eq!(step.mounts[1].source, expected);
            }
        });
        assert_eq!(count.get(), 2, "{second}");
    }
}

#[test]
fn a_part_of_a_cache_is_made_inside_it() {
    let place = Place::new();
    let outside = place.context.join("outside");
    fs_err::create_dir(&outside).unwrap();
    let first = "FROM busybox\nRUN --mount=type=cache,id=c,target=/a true\n";
    told_of(&place, &place.request(first), &|step| {
        // What another step might do there.
        symlink(&outside, hosts(step)[0].join("link")).unwrap();
    });
    let second = "FROM busybox\nRUN --mount=type=cache,id=c,source=link/made,target=/a true\n";
    let seen = Cell::new(false);
    told_of(&place, &place.request(second), &|step| {
        seen.set(matches!(step.mounts[0].source, StepSource::Inside { .. }));
    });
    assert!(seen.get());
    assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn names_of_sources_are_no_patterns() {
    let place = Place::new();
    place.write("pages/[id]/f", "one");
    place.write("pages/i/f", "other");
    let text = "FROM busybox AS from\nCOPY pages /pages\nFROM busybox\n\
        RUN --mount=source=pages/[id],target=/m true\nRUN --mount=from=from,source=/pages/[id],target=/m false\n";
    let request = place.request(text);
    let seen = RefCell::new(Vec::new());
    let look = |step: &RunStep| {
        let path = match &step.mounts[0].source {
            StepSource::Host(path) => path,
            StepSource::Layers { lowers, .. } => &lowers[0],
            other => panic!("{other:?}"),
        };
        let mut seen = seen.borrow_mut();
        seen.push(fs_err::read_to_string(path.join("f")).unwrap());
    };
    told_of(&place, &request, &look);
    place.write("pages/[id]/f", "two");
    told_of(&place, &request, &look);
    told_of(&place, &request, &look);
    assert_eq!(*seen.borrow(), ["one", "one", "two", "two"]);
}

#[test]
fn what_changes_before_a_step_sees_it_is_not_cached() {
    let place = Place::new();
    let link = |target: &str| {
        let path = place.context.join("d/link");
        let _gone = fs_err::remove_file(&path);
        symlink(target, path).unwrap();
    };
    for text in [
        "FROM busybox\nRUN --mount=source=d,target=/m true\n",
        "FROM busybox\nCOPY d /d\n",
    ] {
        for is_link in [false, true] {
            place.write("d/f", "one");
            link("one");
            let change = || {
                if is_link {
                    link("two");
                } else {
                    place.write("d/f", "two");
                }
            };
            let request = place.request(text);
            let told = Told::default();
            let runner = Shown(&|_| {});
            let changing = OnStart(&told, &change);
            place.build_with(&request, &runner, &changing).unwrap();
            let told = told.0.into_inner();
            let says = told.iter().filter(|line| line.contains("changed while"));
            assert_eq!(says.count(), 1, "{told:?}");
            // As it was when it was hashed: that was never built.
            place.write("d/f", "one");
            link("one");
            let told = told_of(&place, &request, &|_| {});
            assert!(!told[1].ends_with("(cached)"), "{text} {is_link} {told:?}");
            let told = told_of(&place, &request, &|_| {});
            assert!(told[1].ends_with("(cached)"), "{text} {is_link} {told:?}");
            // The next round begins without it.
            fs_err::remove_dir_all(place.root.join("cache/steps")).unwrap_or_default();
        }
    }
}

#[test]
fn a_cache_in_use_is_not_emptied_by_a_build_without_cache() {
    let place = Place::new();
    let text = "FROM busybox\nRUN --mount=type=cache,id=c,uid=5,target=/a true\n";
    let mut request = place.request(text);
    let directory = RefCell::new(PathBuf::new());
    told_of(&place, &request, &|step| {
        let data = hosts(step)[0].clone();
        place_file(&data);
        *directory.borrow_mut() = data;
    });
    let directory = directory.into_inner();
    let lock = directory.with_file_name("lock");
    request.no_cache = true;
    let used = Lock::try_acquire(&lock, Mode::Shared).unwrap().unwrap();
    told_of(&place, &request, &|step| {
        let data = hosts(step)[0].clone();
        assert_ne!(data, directory);
        assert_eq!(fs_err::read_dir(&data).unwrap().count(), 0);
    });
    assert!(directory.join("f").exists());
    drop(used);
    told_of(&place, &request, &|step| {
        assert_eq!(hosts(step)[0], directory);
    });
    assert!(!directory.join("f").exists());
}

/// Puts a file into a directory.
fn place_file(directory: &Path) {
    atomic::write(&directory.join("f"), b"f", 0o644, Durability::Cached).unwrap();
}

#[test]
fn an_index_that_cannot_be_written_fails_no_build_and_hides_no_error() {
    let place = Place::new();
    place.write("f", "f");
    // Its times are settled, so that its hash is worth keeping.
    let file = fs_err::File::open(place.context.join("f")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    let request = place.request("FROM busybox\nCOPY f /\nRUN exit 3\n");
    drop(place.images());
    let break_index = || {
        let files = place.root.join("cache/files");
        if !files.is_file() {
            let _gone = fs_err::remove_dir_all(&files);
            fs_err::create_dir_all(files.parent().unwrap()).unwrap();
            atomic::write(&files, b"", 0o600, Durability::Cached).unwrap();
        }
    };
    let told = Told::default();
    let breaking = OnStart(&told, &break_index);
    let error = place.build_with(&request, &Chroot, &breaking).unwrap_err();
    assert!(matches!(error, BuildError::Step { .. }), "{error}");
}

#[test]
fn a_device_of_a_layer_is_not_read() {
    let place = Place::new();
    let text = "FROM busybox AS dev\nRUN mknod /zero c 1 5\nFROM busybox\n\
        RUN --mount=from=dev,source=/zero,target=/z,rw true\n";
    let (built, _) = place.build(&place.request(text));
    let error = built.unwrap_err();
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(text.ends_with("is no longer a file"), "{text}");
}

#[test]
fn a_secret_is_a_variable_byte_by_byte() {
    use std::os::unix::ffi::OsStringExt;
    let place = Place::new();
    let mut request = place.request("FROM busybox\nRUN --mount=type=secret,id=s,env=TOKEN true\n");
    let secret = SecretSource::Value(b"\xff=\n".to_vec());
    request.secrets.insert("s".to_owned(), secret);
    let seen = RefCell::new(Vec::new());
    told_of(&place, &request, &|step| {
        *seen.borrow_mut() = step.secret_env.clone();
    });
    let line = std::ffi::OsString::from_vec(b"TOKEN=\xff=\n".to_vec());
    assert_eq!(seen.into_inner(), [line]);
    let secret = SecretSource::Value(b"a\0b".to_vec());
    request.secrets.insert("s".to_owned(), secret);
    request.no_cache = true;
    let error = place.build(&request).0.unwrap_err();
    let text = std::error::Error::source(&error).unwrap().to_string();
    let expected = "secret \"s\" has a NUL byte: the variable TOKEN cannot hold it";
    assert_eq!(text, expected);
}
