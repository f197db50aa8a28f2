//! Scenes: what is seen and done, and what is to be done then, in words.

use super::*;
use crate::engine::watch::tree::{Node, Stamp};
use crate::spec::model::build::{Build, WatchRule};
use crate::spec::model::service::Service;

/// A ledger over `/p`, with containers `a` and `b` of image `i1`.
struct Scene {
    ledger: Ledger,
    tree: Tree,
    found: Vec<Found>,
}

fn file(size: u64) -> Node {
    Node::File {
        mode: 0o644,
        stamp: Stamp {
            size,
            inode: 1,
            modified_ns: 0,
            changed_ns: 0,
        },
        hash: None,
    }
}

fn found(id: &str, image: &str, doing: Doing) -> Found {
    Found {
        id: id.to_owned(),
        name: id.to_owned(),
        service: "web".to_owned(),
        image: image.to_owned(),
        doing,
        volatile: Vec::new(),
    }
}

fn runs(pid: i32) -> Doing {
    Doing::Running(Init { pid, started: 1 })
}

fn scene(rules: &[(WatchAction, &str)], initial_sync: bool) -> Scene {
    let watch = rules.iter().map(|(action, path)| WatchRule {
        action: *action,
        path: PathBuf::from(path),
        target: Some("/app".to_owned()),
        ignore: Vec::new(),
        include: Vec::new(),
        initial_sync,
    });
    let service = Service {
        watch: watch.collect(),
        build: Some(Build {
            context: PathBuf::from("/p"),
            dockerfile: PathBuf::from("Dockerfile"),
            dockerfile_inline: None,
            args: BTreeMap::new(),
            target: None,
            more: Box::default(),
        }),
        ..Service::default()
    };
    let same = |path: &Path| path.to_path_buf();
    let rules = Rule::of_service("web", &service, &None, same, &mut Vec::new()).unwrap();
    let tree = Tree::from([
        (PathBuf::from("/p/s/x"), file(1)),
        (PathBuf::from("/p/s/y"), file(1)),
        (PathBuf::from("/p/b/z"), file(1)),
    ]);
    let mut scene = Scene {
        ledger: Ledger::new(rules, &tree),
        tree,
        found: vec![found("a", "i1", runs(1)), found("b", "i1", runs(2))],
    };
    scene.finds();
    scene
}

impl Scene {
    fn finds(&mut self) {
        self.ledger.found(self.found.clone(), &self.tree);
    }

    /// A file is saved with another size, or deleted with 0.
    fn save(&mut self, path: &str, size: u64) -> bool {
        let path = PathBuf::from(path);
        let old = match size {
            0 => self.tree.remove(&path),
            size => self.tree.insert(path.clone(), file(size)),
        };
        let changed = old != self.tree.get(&path).cloned();
        self.ledger.seen(&[Seen { path, changed }])
    }

    /// Renders what is to be done: `build web`, `a: x y`, `a: x, restart`.
    fn next(&mut self) -> (Vec<Task>, String) {
        let tasks = self.ledger.next(&self.tree);
        let mut lines = Vec::new();
        for task in &tasks {
            match task {
                Task::Build { services } => {
                    lines.push(format!("build {}", services.first().unwrap()));
                }
                Task::Serve { orders, .. } => lines.extend(orders.iter().map(|order| {
                    let names = order.owed.keys();
                    let mut parts: Vec<_> = names
                        .map(|(_, path)| path.file_name().unwrap().to_str().unwrap())
                        .collect();
                    if order.restart.is_some() {
                        parts.push("restart");
                    }
                    format!("{}: {}", order.found.id, parts.join(" "))
                })),
            }
        }
        (tasks, lines.join("; "))
    }

    /// All orders of a task end well, or all badly.
    fn end(&mut self, tasks: &[Task], well: bool) {
        for task in tasks {
            if let Task::Serve { service, orders } = task {
                let results = orders.iter().map(|order| Served {
                    given: if well {
                        order.owed.clone()
                    } else {
                        BTreeMap::new()
                    },
                    restarted: well && order.restart.is_some(),
                    failed: !well,
                });
                let results = results.collect();
                self.ledger.served(service, orders, results);
            }
        }
    }

    fn check(&mut self, expected: &str) {
        let (tasks, found) = self.next();
        assert_eq!(found, expected);
        self.end(&tasks, true);
    }
}

#[test]
fn every_replica_is_given_what_changed_once() {
    let mut scene = scene(&[(WatchAction::Sync, "/p/s")], false);
    scene.check("");
    scene.save("/p/s/x", 2);
    scene.save("/p/s/y", 0);
    scene.check("a: x y; b: x y");
    scene.check("");
    scene.save("/p/b/z", 2);
    scene.check("");
}

#[test]
fn actions_follow_their_rules() {
    use WatchAction::{Rebuild, Restart, Sync, SyncRestart};
    let rows: [(&[(WatchAction, &str)], &str); 5] = [
        (&[(Restart, "/p/s")], "a: restart; b: restart"),
        (&[(SyncRestart, "/p/s")], "a: x restart; b: x restart"),
        (&[(Rebuild, "/p/s")], "build web"),
        (
            &[(Sync, "/p/s"), (Rebuild, "/p/s/x")],
            "build web; a: x; b: x",
        ),
        // What is replaced is not restarted.
        (&[(Restart, "/p/s"), (Rebuild, "/p/s/x")], "build web"),
    ];
    for (rules, expected) in rows {
        let mut scene = scene(rules, false);
        scene.save("/p/s/x", 2);
        scene.check(expected);
    }
}

#[test]
fn a_save_during_a_task_is_done_by_the_next() {
    let mut scene = scene(&[(WatchAction::SyncRestart, "/p/s")], false);
    scene.save("/p/s/x", 2);
    let (tasks, _) = scene.next();
    scene.save("/p/s/x", 3);
    assert_eq!(scene.next().1, "", "one task a service at a time");
    scene.end(&tasks, true);
    scene.check("a: x restart; b: x restart");
    scene.check("");
}

#[test]
fn what_fails_waits_for_a_reason_to_try_again() {
    let mut scene = scene(&[(WatchAction::Sync, "/p/s")], false);
    scene.save("/p/s/x", 2);
    let (tasks, _) = scene.next();
    scene.end(&tasks, false);
    scene.check("");
    scene.save("/p/s/x", 2);
    let (tasks, found) = scene.next();
    assert_eq!(found, "a: x; b: x", "a touch");
    scene.end(&tasks, false);
    scene.found[0].doing = runs(7);
    scene.finds();
    scene.check("a: x");
}

#[test]
fn a_container_that_does_not_run_is_given_it_when_it_does() {
    let mut scene = scene(&[(WatchAction::Sync, "/p/s")], false);
    scene.found[0].doing = Doing::Waiting;
    scene.found[1].doing = Doing::Nothing;
    scene.finds();
    scene.save("/p/s/x", 2);
    scene.check("");
    scene.found[0].doing = runs(3);
    scene.finds();
    scene.check("a: x");
    // One that ended in the middle of it is given it again.
    scene.save("/p/s/x", 3);
    let (tasks, _) = scene.next();
    scene.found[0].doing = runs(4);
    scene.finds();
    scene.end(&tasks, false);
    scene.check("a: x");
}

#[test]
fn a_new_container_is_given_what_its_image_does_not_have() {
    let mut scene = scene(
        &[(WatchAction::Sync, "/p/s"), (WatchAction::Rebuild, "/p/b")],
        false,
    );
    scene.save("/p/s/x", 2);
    scene.check("a: x; b: x");
    scene.save("/p/b/z", 2);
    scene.check("build web");
    // While it is built, a file changes that is synced.
    scene.save("/p/s/y", 2);
    scene.check("a: y; b: y");
    scene
        .ledger
        .built(BuildOutcome::Done(vec!["i2".to_owned()]));
    scene.found = vec![found("c", "i2", runs(5)), found("b", "i1", runs(2))];
    scene.finds();
    // x is in the image already if the Dockerfile copies it: that is seen when it is compared.
    scene.check("c: x y");
    // One of the old image that was replaced by somebody else.
    scene.found = vec![found("d", "i1", runs(6))];
    scene.finds();
    scene.check("d: x y");
    scene.check("");
}

#[test]
fn a_file_that_went_back_to_its_first_content_still_reaches_a_container_of_an_image_in_between() {
    let mut scene = scene(
        &[(WatchAction::Sync, "/p/s"), (WatchAction::Rebuild, "/p/b")],
        false,
    );
    scene.save("/p/s/x", 2);
    scene.check("a: x; b: x");
    scene.save("/p/b/z", 2);
    scene.check("build web");
    scene.save("/p/s/x", 1);
    scene.check("a: x; b: x");
    // It comes while the build is not told to have ended.
    scene.found = vec![found("c", "i2", runs(5))];
    scene.finds();
    scene
        .ledger
        .built(BuildOutcome::Done(vec!["i2".to_owned()]));
    scene.check("c: x");
}

#[test]
fn initial_sync_gives_everything_once() {
    let mut scene = scene(&[(WatchAction::Sync, "/p/s")], true);
    scene.check("a: x y; b: x y");
    scene.check("");
    scene.found[0] = found("c", "i1", runs(9));
    scene.finds();
    scene.check("c: x y");
}

#[test]
fn memory_is_filled_again_after_a_restart() {
    let mut scene = scene(&[(WatchAction::Sync, "/p/s")], false);
    scene.found[0].volatile = vec![PathBuf::from("/app")];
    scene.finds();
    scene.save("/p/s/x", 2);
    scene.check("a: x; b: x");
    scene.found[0].doing = runs(11);
    scene.found[1].doing = runs(12);
    scene.finds();
    scene.check("a: x");
}

#[test]
fn a_newer_save_supersedes_a_build_and_a_failed_one_is_tried_at_the_next_touch() {
    let mut scene = scene(&[(WatchAction::Rebuild, "/p/b")], false);
    assert!(!scene.save("/p/b/z", 2), "nothing is being built yet");
    scene.check("build web");
    assert!(!scene.save("/p/b/z", 2), "the same content");
    assert!(scene.save("/p/b/z", 3));
    scene.check("");
    scene.ledger.built(BuildOutcome::Superseded);
    scene.check("build web");
    scene.ledger.built(BuildOutcome::Failed);
    scene.check("");
    scene.save("/p/b/z", 3);
    scene.check("build web");
    scene.ledger.built(BuildOutcome::Done(Vec::new()));
    scene.save("/p/b/z", 3);
    scene.check("");
}
