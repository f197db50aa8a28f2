//! Whatever goes wrong at whatever step, the next command converges.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::{pending, ready};
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::{Strategy, prop};
use proptest::test_runner::{Config, TestRunner};

use super::apply::{ApplyError, apply};
use super::event::{Event, EventKind, EventSink, NoEvents};
use super::fake::{FakeHost, Trouble};
use crate::plan::observed::{Health, Observed, State};
use crate::plan::options::{DownOptions, UpOptions};
use crate::plan::testing::{PROJECT, stack};
use crate::plan::{Plan, containers, images, naming, teardown};
use crate::spec::model::Stack;

/// Stacks before and after an edit; each goes from nothing to the first, from the first to the second, and to nothing.
const EDITS: &[(&str, &str)] = &[
    ("web", "web env:A=1"),
    ("web scale=3 anon=/cache", "web scale=2 anon=/cache env:A=1"),
    (
        "db check vol=data:/data\nweb depends:db=healthy!",
        "db check vol=data:/data env:A=1\nweb depends:db=healthy!",
    ),
    (
        "db env:A=1\nside share=db\nmore share=side",
        "db env:A=2\nside share=db\nmore share=side",
    ),
    (
        "web net=front net=back anon=/a\ndb net=back",
        "network back internal\nweb net=front net=back anon=/a env:A=1\ndb net=back",
    ),
    (
        "db net=n\nside share=db",
        "network n internal\ndb net=n\nside share=db",
    ),
    (
        "a name=x\nb name=y depends:a",
        "a name=y\nb name=x depends:a",
    ),
    ("web build\ndb image=one", "web build env:A=1\ndb image=two"),
    ("old name=x net=o\nweb", "new name=x net=o\nweb"),
    ("web net=a", "network a renamed\nweb net=a"),
];

/// What every command here is called with.
fn options() -> UpOptions {
    UpOptions {
        remove_orphans: true,
        wait: true,
        ..UpOptions::default()
    }
}

/// Runs a plan; `None` where the process was killed.
fn run(host: &FakeHost, plan: &Plan) -> Option<Result<(), ApplyError>> {
    apply(plan, host, &NoEvents, pending()).now_or_never()
}

/// One `up`, as far as it comes.
fn up(host: &FakeHost, stack: &Stack) -> Option<Result<(), ApplyError>> {
    host.use_stack(stack);
    let pulls = images::images(stack, &host.observe(PROJECT), &options()).unwrap();
    if let Err(error) = run(host, &pulls)? {
        return Some(Err(error));
    }
    let plan = containers::containers(stack, &host.observe(PROJECT), &options()).unwrap();
    run(host, &plan)
}

/// One `down`, as far as it comes.
fn down(host: &FakeHost) -> Option<Result<(), ApplyError>> {
    let options = DownOptions {
        remove_orphans: true,
        ..DownOptions::default()
    };
    let project = crate::spec::names::ProjectName::new(PROJECT).unwrap();
    let plan = teardown::teardown(&project, None, &host.observe(PROJECT), &options).unwrap();
    run(host, &plan)
}

/// Checks that the machine is as `stack` says, and that a further `up` plans nothing.
fn assert_converged(host: &FakeHost, stack: &Stack, story: &str) {
    let observed = host.observe(PROJECT);
    let wanted: BTreeSet<String> = stack
        .services
        .iter()
        .flat_map(|(name, service)| {
            let numbers = 0..service.scale.unwrap_or(1) as usize;
            numbers.map(move |_| name.to_string())
        })
        .collect();
    let there: BTreeSet<String> = observed
        .containers
        .iter()
        .map(|c| c.service.clone())
        .collect();
    assert_eq!(there, wanted, "{story}");
    for container in &observed.containers {
        assert!(
            matches!(
                container.state,
                State::Running(Health::Unchecked | Health::Healthy)
            ),
            "{story}: {container:?}"
        );
        let name = stack
            .services
            .keys()
            .find(|name| name.as_str() == container.service);
        let name = name.unwrap();
        let service = &stack.services[name];
        let expected = naming::container_name(stack, name, service, container.number);
        assert_eq!(container.name, expected, "{story}");
    }
    let plan = containers::containers(stack, &observed, &options()).unwrap();
    assert!(plan.is_empty(), "{story}:\n{plan}");
}

/// A machine on which `first` is up.
fn machine(first: Option<&Stack>) -> FakeHost {
    let host = FakeHost::default();
    if let Some(first) = first {
        up(&host, first).unwrap().unwrap();
        assert_converged(&host, first, "the first");
    }
    host
}

/// Lets every call of `work` go wrong in turn, in every way, and converges to `then` each time.
fn trouble_everywhere(
    first: Option<&Stack>,
    work: impl Fn(&FakeHost) -> Option<Result<(), ApplyError>>,
    then: impl Fn(&FakeHost, &str),
) {
    let host = machine(first);
    let before = host.log.borrow().len();
    work(&host).unwrap().unwrap();
    let calls = host.log.borrow().len() - before;
    for call in 0..calls {
        for trouble in [Trouble::Fails, Trouble::Killed, Trouble::KilledBefore] {
            let host = machine(first);
            let volumes = host.volumes();
            host.trouble(call, trouble);
            let story = format!("{trouble:?} at call {call}, after {:?}", work(&host));
            host.recover();
            then(&host, &format!("{story}\n{:#?}", host.log.borrow()));
            // Nothing is ever lost.
            assert!(host.volumes().is_superset(&volumes), "{story}");
        }
    }
}

#[test]
fn up_converges_from_trouble_at_any_step() {
    for (old, new) in EDITS {
        let (old, new) = (stack(old), stack(new));
        for (first, next) in [(None, &old), (Some(&old), &new), (Some(&new), &old)] {
            trouble_everywhere(
                first,
                |host| up(host, next),
                |host, story| {
                    up(host, next).unwrap().unwrap_or_else(|error| {
                        panic!("{story}: {error:?}");
                    });
                    assert_converged(host, next, story);
                },
            );
        }
    }
}

#[test]
fn another_edit_after_trouble_converges_as_well() {
    for (old, new) in EDITS {
        let (old, new) = (stack(old), stack(new));
        trouble_everywhere(
            Some(&old),
            |host| up(host, &new),
            |host, story| {
                up(host, &old)
                    .unwrap()
                    .unwrap_or_else(|error| panic!("{story}: {error:?}"));
                assert_converged(host, &old, story);
            },
        );
    }
}

#[test]
fn down_leaves_nothing_after_trouble_at_any_step() {
    for (old, new) in EDITS {
        let (old, new) = (stack(old), stack(new));
        let leaves_nothing = |host: &FakeHost, story: &str| {
            down(host)
                .unwrap()
                .unwrap_or_else(|error| panic!("{story}: {error:?}"));
            assert!(host.is_bare(), "{story}: {:#?}", host.observe(PROJECT));
        };
        trouble_everywhere(Some(&old), down, leaves_nothing);
        trouble_everywhere(Some(&old), |host| up(host, &new), leaves_nothing);
    }
}

#[test]
fn anonymous_volumes_stay_with_their_container() {
    let (old, new) = (stack("web anon=/cache"), stack("web anon=/cache env:A=1"));
    let volume = |observed: &Observed| observed.containers[0].anonymous_volumes.clone();
    let first = volume(&machine(Some(&old)).observe(PROJECT));
    trouble_everywhere(
        Some(&old),
        |host| up(host, &new),
        |host, story| {
            up(host, &new).unwrap().unwrap();
            assert_eq!(volume(&host.observe(PROJECT)), first, "{story}");
        },
    );
}

#[test]
fn completed_jobs_run_again_as_docker_compose_has_it() {
    let stack = stack("job ends=0\nweb depends:job=completed");
    let host = FakeHost::default();
    up(&host, &stack).unwrap().unwrap();
    let plan = containers::containers(&stack, &host.observe(PROJECT), &UpOptions::default());
    assert_eq!(
        plan.unwrap().to_string(),
        "[] -> #1 start container demo-job-1: exited with 0\n"
    );
}

/// Keeps events as text.
#[derive(Default)]
struct Heard(RefCell<Vec<String>>);

impl EventSink for Heard {
    fn emit(&self, event: Event) {
        let text = match event.kind {
            EventKind::Started(word) | EventKind::Finished(word) | EventKind::Unchanged(word) => {
                word.to_owned()
            }
            EventKind::CutOff => "Canceled".to_owned(),
            EventKind::Failed(text) => format!("failed: {text}"),
            EventKind::Warning(text) => format!("warning: {text}"),
            EventKind::Remark(remark) => format!("warning: {remark}"),
            other => format!("{other:?}"),
        };
        let subject = event.subject;
        self.0.borrow_mut().push(format!("{subject} {text}"));
    }
}

fn heard(host: &FakeHost, plan: &Plan) -> (Vec<String>, Result<(), ApplyError>) {
    let events = Heard::default();
    let result = apply(plan, host, &events, pending())
        .now_or_never()
        .unwrap();
    (events.0.into_inner(), result)
}

#[test]
fn events_use_docker_composes_words() {
    let old = stack("db check\nweb depends:db=healthy\nother");
    let new = stack("db check env:A=1\nweb depends:db=healthy env:A=1\nother");
    let host = machine(Some(&old));
    host.use_stack(&new);
    let plan = containers::containers(&new, &host.observe(PROJECT), &UpOptions::default());
    let (events, result) = heard(&host, &plan.unwrap());
    result.unwrap();
    assert_eq!(
        events,
        [
            "Container demo-other-1 Running",
            "Container demo-db-1 Recreate",
            "Container demo-web-1 Recreate",
            "Container demo-web-1 Recreated",
            "Container demo-db-1 Recreated",
            "Container demo-db-1 Starting",
            "Container demo-db-1 Started",
            "Container demo-db-1 Waiting",
            "Container demo-db-1 Healthy",
            "Container demo-web-1 Starting",
            "Container demo-web-1 Started",
        ]
    );
}

#[test]
fn a_failure_stops_what_needs_it_and_nothing_else() {
    let stack = stack("db check\nweb depends:db=healthy\nlax depends:db=healthy?\nother");
    let host = FakeHost::default();
    host.image("app", "sha256:1");
    host.use_stack(&stack);
    let plan = containers::containers(&stack, &host.observe(PROJECT), &UpOptions::default());
    let plan = plan.unwrap();
    // The network comes first, the creations next; this is the first: of db.
    host.trouble(1, Trouble::Fails);
    let (events, result) = heard(&host, &plan);
    let failed = "create demo-db-1: as the test wants";
    assert!(events.contains(&format!("Container demo-db-1 failed: {failed}")));
    let Err(ApplyError::Failed { failures }) = result else {
        panic!("{result:?}");
    };
    let shown: Vec<String> = failures
        .iter()
        .map(|f| format!("{f}: {}", f.source))
        .collect();
    assert_eq!(shown, [format!("create container demo-db-1: {failed}")]);
    let observed = host.observe(PROJECT);
    let states = observed
        .containers
        .iter()
        .map(|c| (c.name.as_str(), c.state));
    let states: BTreeSet<String> = states
        .map(|(name, state)| format!("{name} {state:?}"))
        .collect();
    assert_eq!(
        states,
        [
            "demo-lax-1 Running(Unchecked)",
            "demo-other-1 Running(Unchecked)",
            "demo-web-1 Created",
        ]
        .map(str::to_owned)
        .into()
    );
}

#[test]
fn optional_dependencies_and_pulls_with_a_build_only_warn() {
    let stack = stack("db\nweb depends:db=healthy?\napp image=own build=own");
    let host = FakeHost::default();
    host.cannot_pull("own");
    let plan = images::images(&stack, &host.observe(PROJECT), &UpOptions::default()).unwrap();
    let (events, result) = heard(&host, &plan);
    result.unwrap();
    assert!(
        events.contains(&"Image own warning: pull image own: own: no such image".to_owned()),
        "{events:?}"
    );
    assert!(events.contains(&"Image own Built".to_owned()), "{events:?}");
    host.use_stack(&stack);
    let plan = containers::containers(&stack, &host.observe(PROJECT), &UpOptions::default());
    // db has no health check, so that it is never healthy.
    let (events, result) = heard(&host, &plan.unwrap());
    result.unwrap();
    let warning = "Container demo-db-1 warning: wait for demo-db-1 to be healthy: demo-db-1 is Running(Unchecked)";
    assert!(events.iter().any(|event| event == warning), "{events:?}");
    assert!(
        events.contains(&"Container demo-web-1 Started".to_owned()),
        "{events:?}"
    );
}

#[test]
fn the_first_build_that_fails_ends_the_others() {
    // Two builds go on at once: the one that does not end by itself is broken off, and the third never begins.
    let stack = stack("a build\nb build\nc build");
    let host = FakeHost::default();
    host.cannot_build("demo-b");
    host.hang("build demo-a");
    let plan = images::images(&stack, &host.observe(PROJECT), &UpOptions::default()).unwrap();
    let (events, result) = heard(&host, &plan);
    let Err(ApplyError::Failed { failures }) = result else {
        panic!("{result:?}");
    };
    let told: Vec<String> = failures.iter().map(|f| f.source.to_string()).collect();
    assert_eq!(told, ["demo-b: exit code: 1"]);
    assert_eq!(*host.log.borrow(), ["build demo-b"]);
    assert_eq!(
        events,
        [
            "Image demo-a Building",
            "Image demo-b Building",
            "Image demo-b failed: demo-b: exit code: 1",
            "Image demo-a Canceled",
        ]
    );
}

#[test]
fn an_interrupt_begins_nothing_new_and_breaks_off_waits() {
    let stack = stack("db check\nweb depends:db=healthy");
    let host = FakeHost::default();
    host.image("app", "sha256:1");
    host.use_stack(&stack);
    let plan = containers::containers(&stack, &host.observe(PROJECT), &UpOptions::default());
    let plan = plan.unwrap();
    let result = apply(&plan, &host, &NoEvents, ready(()))
        .now_or_never()
        .unwrap();
    assert!(matches!(result, Err(ApplyError::Interrupted { failures }) if failures.is_empty()));
    assert_eq!(*host.log.borrow(), [""; 0]);

    // Network, two creations, a start, then the wait, which does not end.
    host.hang("wait for db");
    let cancel = async {
        while host.log.borrow().len() < 4 {
            tokio::task::yield_now().await;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let result = runtime.block_on(async {
        let applied = apply(&plan, &host, &NoEvents, cancel);
        tokio::time::timeout(Duration::from_secs(10), applied)
            .await
            .unwrap()
    });
    assert!(matches!(result, Err(ApplyError::Interrupted { failures }) if failures.is_empty()));
    let web = host
        .observe(PROJECT)
        .containers
        .into_iter()
        .find(|c| c.service == "web");
    assert_eq!(web.unwrap().state, State::Created);
    host.recover();
    up(&host, &stack).unwrap().unwrap();
    assert_converged(&host, &stack, "after the interrupt");
}

#[test]
fn a_wait_ends_at_its_timeout() {
    let stack = stack("db check");
    let host = machine(Some(&stack));
    let mut observed = host.observe(PROJECT);
    observed.containers[0].state = State::Running(Health::Starting);
    let options = UpOptions {
        wait_timeout: Some(Duration::from_millis(1)),
        ..options()
    };
    let plan = containers::containers(&stack, &observed, &options).unwrap();
    host.hang("wait for db");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let result = runtime.block_on(apply(&plan, &host, &NoEvents, pending()));
    let Err(ApplyError::Failed { failures }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(failures[0].source.to_string(), "not ready after 0.001s");
}

/// A stack of up to six services, each depending on some before it.
fn any_stack() -> impl Strategy<Value = Stack> {
    let service = (
        0..4_u8,
        0..3_u8,
        prop::collection::vec(0..6_usize, 0..3),
        0..6_u8,
    );
    prop::collection::vec(service, 1..6).prop_map(|services| {
        let mut lines = Vec::new();
        for (index, (kind, variable, depends, scale)) in services.into_iter().enumerate() {
            let flag = ["", "!", "?", "healthy!"][usize::from(kind)];
            let before = depends.into_iter().filter(|dependency| *dependency < index);
            let mut words = vec![format!("s{index} check anon=/a env:A={variable}")];
            words.extend(before.map(|dependency| format!("depends:s{dependency}={flag}")));
            words.push(match kind {
                1 if index > 0 => format!("share=s{}", index - 1),
                2 => "net=x net=y".to_owned(),
                3 => format!("name=n{variable}-{index}"),
                _ => String::new(),
            });
            if kind != 3 {
                words.push(format!("scale={}", scale.max(1)));
            }
            if kind == 2 && variable == 1 {
                lines.push("network x internal".to_owned());
            }
            lines.push(words.join(" "));
        }
        stack(&lines.join("\n"))
    })
}

#[test]
fn any_edit_converges_from_trouble_at_any_step() {
    let config = Config {
        cases: Config::default().cases.clamp(100, 2_000),
        failure_persistence: None,
        ..Config::default()
    };
    let input = (any_stack(), any_stack(), 0..60_usize, 0..3_usize, 0..4_u8);
    TestRunner::new(config)
        .run(&input, |(old, new, call, trouble, dead)| {
            let host = machine(Some(&old));
            if dead == 0 {
                let name = host.observe(PROJECT).containers[0].name.clone();
                host.die(&name, 1);
            }
            let trouble = [Trouble::Fails, Trouble::Killed, Trouble::KilledBefore][trouble];
            host.trouble(call, trouble);
            let first = format!("{:?}", up(&host, &new));
            host.recover();
            let again = up(&host, &new).unwrap();
            assert!(
                again.is_ok(),
                "{again:?} after {first}: {:#?}",
                host.log.borrow()
            );
            assert_converged(&host, &new, &first);
            down(&host).unwrap().unwrap();
            assert!(host.is_bare());
            Ok(())
        })
        .unwrap();
}
