//! Stack and observed state in, printed plan out.

use std::collections::BTreeSet;
use std::time::Duration;

use super::containers::containers;
use super::error::PlanError;
use super::observed::{Health, Observed, State};
use super::options::{
    BuildImages, DownOptions, ImageOptions, LifecycleOptions, Recreate, UpOptions,
};
use super::testing::{bare, id, stack, up};
use super::{Plan, images, lifecycle, teardown};
use crate::spec::model::Stack;
use crate::spec::model::service::PullPolicy;

/// Compares a printed plan, its warnings after it; indentation does not count.
fn check(plan: Result<Plan, PlanError>, expected: &str) {
    let shown = match plan {
        Ok(plan) => {
            let warnings = plan.warnings.iter().map(|w| format!("warning: {w}\n"));
            format!("{plan}{}", warnings.collect::<String>())
        }
        Err(error) => format!("error: {error}\n"),
    };
    let lines = expected
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let expected: String = lines.flat_map(|line| [line, "\n"]).collect();
    assert_eq!(shown, expected, "\n{shown}");
}

fn plan(text: &str, observed: &Observed, options: &UpOptions) -> Result<Plan, PlanError> {
    containers(&stack(text), observed, options)
}

fn default() -> UpOptions {
    UpOptions::default()
}

fn named(services: &[&str]) -> UpOptions {
    UpOptions {
        services: services.iter().map(|s| (*s).to_owned()).collect(),
        ..default()
    }
}

/// `up` of `old` has run; what does `up` of `new` do?
fn edit(old: &str, new: &str, expected: &str) {
    check(plan(new, &up(&stack(old)), &default()), expected);
}

fn state_of<'o>(observed: &'o mut Observed, name: &str) -> &'o mut State {
    let mut all = observed.containers.iter_mut();
    &mut all.find(|c| c.name == name).unwrap().state
}

#[test]
fn first_up() {
    let text = "db image=db check vol=data:/data\nweb scale=2 depends:db=healthy\njob depends:db depends:web=healthy?";
    let stack = stack(text);
    check(
        containers(&stack, &bare(&stack), &default()),
        "[] -> #1 create network demo_default: does not exist yet
         [] -> #2 create volume demo_data: does not exist yet
         [1,2] -> #3 create container demo-db-1: no container yet
         [3] -> #4 start container demo-db-1: not started yet
         [4] -> #5 wait for demo-db-1 to be healthy: needed by web
         [1] -> #6 create container demo-web-1: no container yet
         [5,6] -> #7 start container demo-web-1: not started yet
         [1] -> #8 create container demo-web-2: no container yet
         [5,8] -> #9 start container demo-web-2: not started yet
         [7,9] -> #10 wait for demo-web-1, demo-web-2 to be healthy: needed by job
         [1] -> #11 create container demo-job-1: no container yet
         [4,~10,11] -> #12 start container demo-job-1: not started yet",
    );
}

#[test]
fn second_up_plans_nothing() {
    for text in [
        "web",
        "db check\nweb scale=3 depends:db=healthy vol=data:/data anon=/cache",
        "db\nside share=db depends:db=!\nweb net=front net=back name=www",
        "network front external\nvolume data external\nweb net=front vol=data:/data",
    ] {
        edit(text, text, "");
    }
}

#[test]
fn a_changed_variable_recreates_that_container_alone_and_is_named() {
    edit(
        "db\nweb depends:db env:LOG_LEVEL=debug env:OLD=1",
        "db\nweb depends:db env:LOG_LEVEL=info env:NEW=2",
        "[] -> #1 create container demo-web-1 to replace web100000000: environment.LOG_LEVEL debug → info, environment.NEW unset → 2, environment.OLD 1 → unset
         [1] -> #2 stop container demo-web-1: replaced
         [2] -> #3 remove container demo-web-1: replaced
         [3] -> #4 rename container web100000000_demo-web-1 to demo-web-1: takes its place
         [4] -> #5 start container demo-web-1: takes its place",
    );
}

#[test]
fn secrets_are_not_shown() {
    let cases = [
        (
            "env:DB_PASSWORD=hunter2",
            "env:DB_PASSWORD=hunter3",
            "environment.DB_PASSWORD changed (value not shown)",
        ),
        (
            "env:A=1",
            "env:A=1 env:API_KEY=x",
            "environment.API_KEY set (value not shown)",
        ),
        (
            "env:API_KEY=x env:A=1",
            "env:A=1",
            "environment.API_KEY no longer set",
        ),
        (
            "env:URL=postgres://u:p@db/x",
            "env:URL=postgres://u:p@db/y",
            "environment.URL postgres://u:***@db/x → postgres://u:***@db/y",
        ),
        (
            "env:URL=postgres://u:p@db/x",
            "env:URL=postgres://u:q@db/x",
            "environment.URL changed",
        ),
        ("env:X=ghp_1234", "env:X=plain", "environment.X *** → plain"),
    ];
    for (old, new, cause) in cases {
        let plan = plan(
            &format!("web {new}"),
            &up(&stack(&format!("web {old}"))),
            &default(),
        );
        assert_eq!(plan.unwrap().steps[0].cause.to_string(), cause);
    }
}

#[test]
fn a_new_image_recreates() {
    let stack = stack("web");
    let mut observed = up(&stack);
    let new = "sha256:0123456789abcdef".to_owned();
    observed.images.insert("app".to_owned(), new);
    let plan = containers(&stack, &observed, &default()).unwrap();
    assert_eq!(
        plan.steps[0].cause.to_string(),
        "image id app-1 → 0123456789ab"
    );
}

#[test]
fn what_is_not_the_containers_does_not_recreate() {
    edit("web", "web profile=x build=app scale=1", "");
    let mut all = stack("web");
    let web = all.services.values_mut().next().unwrap();
    web.pull_policy = Some(PullPolicy::Always);
    check(containers(&all, &up(&stack("web")), &default()), "");
}

#[test]
fn content_of_a_secret_recreates() {
    let mut all = stack("web");
    let grant = crate::spec::model::volume::FileGrant {
        source: "db".to_owned(),
        target: "/run/secrets/db".to_owned(),
        uid: None,
        gid: None,
        mode: None,
    };
    all.services
        .values_mut()
        .next()
        .unwrap()
        .secrets
        .push(grant);
    let mut observed = up(&all);
    let digest = |digest: &str| UpOptions {
        secret_digests: [("db".to_owned(), digest.to_owned())].into(),
        ..default()
    };
    let web = all.services.values().next().unwrap();
    observed.containers[0].asked = super::fingerprint::service(&all, web, &digest("sha256:1"));
    check(containers(&all, &observed, &digest("sha256:1")), "");
    let plan = containers(&all, &observed, &digest("sha256:2")).unwrap();
    assert_eq!(
        plan.steps[0].cause.to_string(),
        "secrets./run/secrets/db.content changed (value not shown)"
    );
}

#[test]
fn dependents_that_ask_for_it_restart_with_a_dependency() {
    edit(
        "db env:A=1\nweb depends:db=!\nother depends:db",
        "db env:A=2\nweb depends:db=!\nother depends:db",
        "[] -> #1 create container demo-db-1 to replace db1000000000: environment.A 1 → 2
         [] -> #2 stop container demo-web-1: depends on db, which is replaced
         [1,~2] -> #3 stop container demo-db-1: replaced
         [3] -> #4 remove container demo-db-1: replaced
         [4] -> #5 rename container db1000000000_demo-db-1 to demo-db-1: takes its place
         [5] -> #6 start container demo-db-1: takes its place
         [2,6] -> #7 start container demo-web-1: depends on db, which is replaced",
    );
}

#[test]
fn who_shares_a_network_is_replaced_with_its_donor() {
    edit(
        "db env:A=1\nside share=db",
        "db env:A=2\nside share=db",
        "[] -> #1 create container demo-db-1 to replace db1000000000: environment.A 1 → 2
         [1] -> #2 create container demo-side-1 to replace side10000000: shares the network of db, which is replaced
         [2] -> #3 stop container demo-side-1: replaced
         [1,~3] -> #4 stop container demo-db-1: replaced
         [4] -> #5 remove container demo-db-1: replaced
         [5] -> #6 rename container db1000000000_demo-db-1 to demo-db-1: takes its place
         [6] -> #7 start container demo-db-1: takes its place
         [3] -> #8 remove container demo-side-1: replaced
         [8] -> #9 rename container side10000000_demo-side-1 to demo-side-1: takes its place
         [7,9] -> #10 start container demo-side-1: takes its place",
    );
}

#[test]
fn who_shares_a_network_restarts_with_its_donor() {
    let text = "db\nside share=db";
    let mut observed = up(&stack(text));
    *state_of(&mut observed, "demo-db-1") = State::Exited { code: Some(1) };
    check(
        plan(text, &observed, &default()),
        "[] -> #1 stop container demo-side-1: shares the network of db, which starts anew
         [1] -> #2 start container demo-db-1: exited with 1
         [2] -> #3 start container demo-side-1: shares the network of db, which starts anew",
    );
}

#[test]
fn who_shares_a_network_restarts_with_its_donor_also_when_not_named() {
    let text = "db\nside share=db\nmore share=side";
    let mut observed = up(&stack(text));
    *state_of(&mut observed, "demo-db-1") = State::Exited { code: Some(1) };
    check(
        plan(text, &observed, &named(&["db"])),
        "[] -> #1 stop container demo-more-1: shares the network of side, which starts anew
         [~1] -> #2 stop container demo-side-1: shares the network of db, which starts anew
         [2] -> #3 start container demo-db-1: exited with 1
         [1,3] -> #4 start container demo-side-1: shares the network of db, which starts anew
         [4] -> #5 start container demo-more-1: shares the network of side, which starts anew",
    );
}

#[test]
fn a_donor_starts_only_when_a_replaced_sharer_has_stopped() {
    let mut observed = up(&stack("db\nside share=db"));
    *state_of(&mut observed, "demo-db-1") = State::Exited { code: Some(1) };
    check(
        plan("db\nside share=db env:A=1", &observed, &default()),
        "[] -> #1 create container demo-side-1 to replace side10000000: environment.A unset → 1
         [1] -> #2 stop container demo-side-1: replaced
         [2] -> #3 start container demo-db-1: exited with 1
         [2] -> #4 remove container demo-side-1: replaced
         [4] -> #5 rename container side10000000_demo-side-1 to demo-side-1: takes its place
         [3,5] -> #6 start container demo-side-1: takes its place",
    );
}

#[test]
fn a_changed_network_is_made_anew_under_its_containers() {
    edit(
        "web net=front net=back\nother net=front env:A=1\nthird net=back",
        "network front internal\nweb net=front net=back\nother net=front env:A=2\nthird net=back",
        "[] -> #1 create container demo-other-1 to replace other1000000: environment.A 1 → 2
         [1] -> #2 stop container demo-other-1: replaced
         [2] -> #3 remove container demo-other-1: replaced
         [3] -> #4 rename container other1000000_demo-other-1 to demo-other-1: takes its place
         [] -> #5 stop container demo-web-1: attached to network demo_front, which is made anew
         [5] -> #6 disconnect container demo-web-1: attached to network demo_front, which is made anew
         [3,6] -> #7 remove network demo_front: internal false → true
         [7] -> #8 create network demo_front: takes its place
         [4,8] -> #9 start container demo-other-1: takes its place
         [6,8] -> #10 start container demo-web-1: attached to network demo_front, which is made anew",
    );
}

#[test]
fn a_changed_network_stays_while_others_use_it() {
    let old = "web net=front\nother net=front";
    let new = format!("network front internal\n{old}");
    check(
        plan(&new, &up(&stack(old)), &named(&["web"])),
        "warning: network `demo_front` differs from the file (internal false → true), but is kept: containers outside this \
         command use it (demo-other-1)",
    );
}

#[test]
fn scale() {
    edit(
        "web",
        "web scale=3",
        "[] -> #1 create container demo-web-2: no container yet
         [1] -> #2 start container demo-web-2: not started yet
         [] -> #3 create container demo-web-3: no container yet
         [3] -> #4 start container demo-web-3: not started yet",
    );
    edit(
        "web scale=3",
        "web",
        "[] -> #1 stop container demo-web-2: scale down to 1
         [1] -> #2 remove container demo-web-2: scale down to 1
         [] -> #3 stop container demo-web-3: scale down to 1
         [3] -> #4 remove container demo-web-3: scale down to 1",
    );
    edit(
        "web name=www",
        "web name=www scale=2",
        "error: service `web` has container_name `www` and cannot have 2 containers",
    );
    // A stale one goes before one that is as it should be, whatever their numbers.
    let mut observed = up(&stack("web scale=2"));
    observed.containers[0].image_id = "sha256:old".to_owned();
    check(
        plan("web", &observed, &default()),
        "[] -> #1 stop container demo-web-1: scale down to 1
         [1] -> #2 remove container demo-web-1: scale down to 1",
    );
}

#[test]
fn what_has_done_its_work_is_left_alone_where_that_is_asked_for() {
    let text = "job ends=0\nweb depends:job=completed";
    let apply = UpOptions {
        leave_completed: true,
        ..default()
    };
    let mut observed = up(&stack(text));
    *state_of(&mut observed, "demo-job-1") = State::Exited { code: Some(0) };
    check(plan(text, &observed, &apply), "");
    *state_of(&mut observed, "demo-job-1") = State::Exited { code: Some(1) };
    check(
        plan(text, &observed, &apply),
        "[] -> #1 start container demo-job-1: exited with 1",
    );
}

#[test]
fn what_has_ended_is_started_again() {
    let text = "job ends=0\ndb check\nweb depends:job=completed depends:db=healthy";
    let mut observed = up(&stack(text));
    *state_of(&mut observed, "demo-job-1") = State::Exited { code: Some(0) };
    check(
        plan(text, &observed, &default()),
        "[] -> #1 start container demo-job-1: exited with 0",
    );
    *state_of(&mut observed, "demo-web-1") = State::Exited { code: Some(137) };
    *state_of(&mut observed, "demo-db-1") = State::Running(Health::Starting);
    check(
        plan(text, &observed, &default()),
        "[] -> #1 start container demo-job-1: exited with 0
         [] -> #2 wait for demo-db-1 to be healthy: needed by web
         [1] -> #3 wait for demo-job-1 to complete: needed by web
         [2,3] -> #4 start container demo-web-1: exited with 137",
    );
}

#[test]
fn flags_of_recreation() {
    let text = "db\nweb depends:db anon=/cache";
    let observed = up(&stack(text));
    let causes = |options: &UpOptions| -> Vec<String> {
        let plan = plan(text, &observed, options).unwrap();
        let creates = plan
            .steps
            .iter()
            .filter(|s| s.action.to_string().starts_with("create"));
        creates
            .map(|s| format!("{}: {}", s.action, s.cause))
            .collect()
    };
    let web = "create container demo-web-1 to replace web100000000: ".to_owned();
    let db = "create container demo-db-1 to replace db1000000000: ".to_owned();
    let force = UpOptions {
        recreate: Recreate::Always,
        ..named(&["web"])
    };
    assert_eq!(causes(&force), [web.clone() + "--force-recreate"]);
    let deps = UpOptions {
        always_recreate_deps: true,
        ..named(&["web"])
    };
    assert_eq!(causes(&deps), [db.clone() + "--always-recreate-deps"]);
    let renew = UpOptions {
        renew_anonymous_volumes: true,
        ..default()
    };
    let flag = "--renew-anon-volumes";
    assert_eq!(causes(&renew), [db + flag, web + flag]);
    let never = UpOptions {
        recreate: Recreate::Never,
        ..default()
    };
    check(plan("db env:A=1\nweb depends:db", &observed, &never), "");
}

#[test]
fn anonymous_volumes_are_taken_over() {
    let observed = up(&stack("web anon=/cache anon=/gone"));
    let inherits = |options: &UpOptions| {
        let new = "web env:A=1 anon=/cache vol=data:/gone";
        let plan = plan(new, &observed, options).unwrap();
        let spec = plan.steps.into_iter().find_map(|step| match step.action {
            super::action::Action::CreateContainer(spec) => Some(*spec),
            _ => None,
        });
        spec.unwrap().inherits
    };
    let kept = [("/cache".to_owned(), "anonymous-web-1".to_owned())];
    assert_eq!(inherits(&default()), kept.into());
    let renew = UpOptions {
        renew_anonymous_volumes: true,
        ..default()
    };
    assert_eq!(inherits(&renew), [].into());
}

#[test]
fn orphans() {
    let observed = up(&stack("web\nold depends:older\nolder\n"));
    check(
        plan("web", &observed, &default()),
        "warning: found orphan containers (demo-old-1, demo-older-1) for project `demo`: their services are not in the \
         file; `--remove-orphans` removes them",
    );
    let remove = UpOptions {
        remove_orphans: true,
        ..default()
    };
    check(
        plan("web", &observed, &remove),
        "[] -> #1 stop container demo-old-1: service old is not in the file
         [1] -> #2 remove container demo-old-1: service old is not in the file
         [~1] -> #3 stop container demo-older-1: service older is not in the file
         [3] -> #4 remove container demo-older-1: service older is not in the file",
    );
    // Those of a service that no profile enables are no orphans.
    check(
        plan("web\n-old profile=x", &up(&stack("web\nold")), &default()),
        "",
    );
}

#[test]
fn a_container_name_that_moves() {
    let old = "a name=x";
    check(
        plan("b name=x", &up(&stack(old)), &default()),
        "error: container name `x`, wanted by service `b`, is held by a container of service `a`",
    );
    let remove = UpOptions {
        remove_orphans: true,
        ..default()
    };
    check(
        plan("b name=x", &up(&stack(old)), &remove),
        "[] -> #1 stop container x: service a is not in the file
         [1] -> #2 remove container x: service a is not in the file
         [2] -> #3 create container x: no container yet
         [3] -> #4 start container x: not started yet",
    );
    check(
        plan("a name=x\nb name=x", &bare(&stack("a")), &default()),
        "error: services `a` and `b` both have container_name `x`",
    );
    edit(
        "a name=x\nb name=y depends:a",
        "a name=y\nb name=x depends:a",
        "[] -> #1 create container y to replace a10000000000: container_name x → y
         [] -> #2 create container x to replace b10000000000: container_name y → x
         [2] -> #3 stop container y: replaced
         [1,~3] -> #4 stop container x: replaced
         [4] -> #5 remove container x: replaced
         [3] -> #6 remove container y: replaced
         [5,6] -> #7 rename container a10000000000_y to y: takes its place
         [7] -> #8 start container y: takes its place
         [5,6] -> #9 rename container b10000000000_x to x: takes its place
         [8,9] -> #10 start container x: takes its place",
    );
}

#[test]
fn interrupted_replacements_are_taken_up() {
    let (old, new) = ("web env:A=1", "web env:A=2");
    let mut observed = up(&stack(old));
    let mut made = up(&stack(new)).containers.remove(0);
    made.id = id("new", 1);
    made.name = "web100000000_demo-web-1".to_owned();
    made.state = State::Created;
    made.replaces = Some(id("web", 1));
    observed.containers.push(made.clone());
    check(
        plan(new, &observed, &default()),
        "[] -> #1 stop container demo-web-1: an earlier replacement was interrupted
         [1] -> #2 remove container demo-web-1: an earlier replacement was interrupted
         [2] -> #3 rename container web100000000_demo-web-1 to demo-web-1: an earlier replacement was interrupted
         [3] -> #4 start container demo-web-1: an earlier replacement was interrupted",
    );
    // The edit is taken back.
    check(
        plan(old, &observed, &default()),
        "[] -> #1 remove container web100000000_demo-web-1: an earlier replacement was interrupted",
    );
    // Another edit.
    check(
        plan("web env:A=3", &observed, &default()),
        "[] -> #1 remove container web100000000_demo-web-1: an earlier replacement was interrupted
         [1] -> #2 create container demo-web-1 to replace web100000000: environment.A 1 → 3
         [2] -> #3 stop container demo-web-1: replaced
         [3] -> #4 remove container demo-web-1: replaced
         [4] -> #5 rename container web100000000_demo-web-1 to demo-web-1: takes its place
         [5] -> #6 start container demo-web-1: takes its place",
    );
    observed.containers.remove(0);
    check(
        plan(new, &observed, &default()),
        "[] -> #1 rename container web100000000_demo-web-1 to demo-web-1: an earlier replacement was interrupted
         [1] -> #2 start container demo-web-1: not started yet",
    );
}

#[test]
fn selection() {
    let text = "db\nweb depends:db\nother\n-debug profile=tools depends:db\n-also profile=tools";
    let steps = |options: &UpOptions| -> Vec<String> {
        let plan = plan(text, &bare(&stack(text)), options).unwrap();
        let starts = plan.steps.iter().map(|s| s.action.to_string());
        starts
            .filter_map(|s| Some(s.strip_prefix("start container demo-")?.to_owned()))
            .collect()
    };
    assert_eq!(
        steps(&default()),
        ["db-1", "other-1", "web-1"].map(str::to_owned)
    );
    assert_eq!(
        steps(&named(&["web"])),
        ["db-1", "web-1"].map(str::to_owned)
    );
    assert_eq!(
        steps(&named(&["debug"])),
        ["db-1", "debug-1"].map(str::to_owned)
    );
    let no_deps = UpOptions {
        no_deps: true,
        ..named(&["web"])
    };
    assert_eq!(steps(&no_deps), ["web-1"].map(str::to_owned));
    check(
        plan(text, &bare(&stack(text)), &named(&["nope"])),
        "error: no such service: nope",
    );
}

#[test]
fn bad_input_is_named() {
    let cases = [
        (
            "a depends:b\nb depends:c\nc depends:a",
            "services depend on each other: a -> b -> c -> a",
        ),
        (
            "a share=b\nb depends:a",
            "services depend on each other: a -> b -> a",
        ),
        (
            "a depends:b",
            "service `a` depends on `b`, which the file does not have",
        ),
        (
            "a depends:b\n-b profile=x",
            "service `a` depends on `b`, which no active profile enables",
        ),
        (
            "network n external\na net=n",
            "network `demo_n` is declared as external, but does not exist",
        ),
        (
            "volume v external\na vol=v:/v",
            "volume `demo_v` is declared as external, but does not exist",
        ),
        (
            "a image=gone",
            "image `gone` of service `a` is not here, and nothing has pulled or built it",
        ),
        (
            "a scale=100000000",
            "service `a` asks for 100000000 containers: a machine has room for 10000 of a service at most",
        ),
    ];
    for (text, error) in cases {
        let mut observed = bare(&stack(text));
        observed.images.remove("gone");
        check(
            plan(text, &observed, &default()),
            &format!("error: {error}"),
        );
    }
    let no_deps = UpOptions {
        no_deps: true,
        ..named(&["side"])
    };
    check(
        plan("db\nside share=db", &bare(&stack("db")), &no_deps),
        "error: cannot share network namespace with service `db` for `side`: container missing",
    );
    // A dependency that may be missing is.
    let text = "a depends:b=?";
    plan(text, &bare(&stack(text)), &default()).unwrap();
}

#[test]
fn no_start_and_wait() {
    let stack = stack("job ends=0\nweb check depends:job=completed");
    let create = UpOptions {
        no_start: true,
        ..default()
    };
    check(
        containers(&stack, &bare(&stack), &create),
        "[] -> #1 create network demo_default: does not exist yet
         [1] -> #2 create container demo-job-1: no container yet
         [1] -> #3 create container demo-web-1: no container yet",
    );
    let mut observed = up(&stack);
    *state_of(&mut observed, "demo-web-1") = State::Running(Health::Starting);
    let wait = UpOptions {
        wait: true,
        wait_timeout: Some(Duration::from_secs(3)),
        ..default()
    };
    check(
        containers(&stack, &observed, &wait),
        "[] -> #1 wait for demo-job-1 to complete: --wait
         [] -> #2 wait for demo-web-1 to run: --wait",
    );
}

#[test]
fn foreign_resources_are_used_and_said() {
    let text = "web vol=data:/data";
    let mut observed = up(&stack(text));
    observed.networks[0].project = None;
    observed.volumes[0].project = Some("other".to_owned());
    check(
        plan(text, &observed, &default()),
        "warning: network `demo_default` exists but was not created for project `demo`; it is used as it is: set `external: true` to say so
         warning: volume `demo_data` exists but was not created for project `demo`; it is used as it is: set `external: true` to say so",
    );
}

#[test]
fn images_of_up() {
    let text = "a image=one\nb image=one\nc build\nd image=two build=two\ne image=here";
    let all = stack(text);
    let mut observed = Observed::default();
    observed
        .images
        .insert("here".to_owned(), "sha256:1".to_owned());
    check(
        images::images(&all, &observed, &default()),
        "[] -> #1 build image demo-c: does not exist yet
         [] -> #2 pull image one: does not exist yet
         [] -> #3 pull image two: does not exist yet
         [!3] -> #4 build image two: if it cannot be pulled",
    );
    let always = UpOptions {
        build: BuildImages::Always,
        pull: Some(PullPolicy::Always),
        ..named(&["d", "e"])
    };
    check(
        images::images(&all, &observed, &always),
        "[] -> #1 pull image here: pull policy is always
         [] -> #2 build image two: --build",
    );
    let never = UpOptions {
        pull: Some(PullPolicy::Never),
        ..named(&["a"])
    };
    check(
        images::images(&all, &observed, &never),
        "error: image `one` of service `a` is not here, and its pull policy does not let it be pulled",
    );
    check(
        images::pull(&all, &observed, &ImageOptions::default()),
        "[] -> #1 pull image here: pull
         [] -> #2 pull image one: does not exist yet
         [] -> #3 pull image two: does not exist yet",
    );
    check(
        images::build(&all, &ImageOptions::default()),
        "[] -> #1 build image demo-c: build
         [] -> #2 build image two: build",
    );
}

#[test]
fn what_a_build_takes_from_another_service_is_built_with_it_and_not_moved_with_it() {
    let all = stack("base image=base build=base\nweb image=web build=web context=base");
    let observed = Observed::default();
    let web = ImageOptions {
        services: vec!["web".to_owned()],
        ..ImageOptions::default()
    };
    check(
        images::build(&all, &web),
        "[] -> #1 build image base: build
         [1] -> #2 build image web: build",
    );
    check(
        images::images(&all, &observed, &named(&["web"])),
        "[] -> #1 pull image base: does not exist yet
         [!1] -> #2 build image base: if it cannot be pulled
         [] -> #3 pull image web: does not exist yet
         [~1,~2,!3] -> #4 build image web: if it cannot be pulled",
    );
    check(
        images::pull(&all, &observed, &web),
        "[] -> #1 pull image web: does not exist yet",
    );
    let pushes = images::Pushes {
        pushed: BTreeSet::from(["web".to_owned()]),
        skipped: BTreeSet::new(),
    };
    assert_eq!(images::pushes(&all, &web).unwrap(), pushes);
}

#[test]
fn an_image_for_another_platform_is_as_good_as_none() {
    let asked = "linux/arm64";
    let all = stack(&format!(
        "a image=one platform={asked}\nb image=two build=two platform={asked}\nc image=one"
    ));
    let mut observed = bare(&all);
    for image in ["one", "two"] {
        let key = (image.to_owned(), asked.to_owned());
        observed
            .other_platforms
            .insert(key, "linux/amd64".to_owned());
    }
    let pulls = "[] -> #1 pull image one: is here for linux/amd64 only
         [] -> #2 pull image two: is here for linux/amd64 only";
    check(
        images::images(&all, &observed, &default()),
        &format!("{pulls}\n[!2] -> #3 build image two: if it cannot be pulled"),
    );
    check(images::images(&all, &observed, &named(&["c"])), "");
    let missing = ImageOptions {
        missing_only: true,
        ..ImageOptions::default()
    };
    check(images::pull(&all, &observed, &missing), pulls);
    let refused = "error: image with reference `one` was found but does not provide the specified platform (linux/arm64): it is for linux/amd64";
    let never = UpOptions {
        pull: Some(PullPolicy::Never),
        ..named(&["a"])
    };
    check(images::images(&all, &observed, &never), refused);
    check(containers(&all, &observed, &named(&["a"])), refused);
    // A dry run goes on as though it had come.
    observed.assume_images(&images::images(&all, &observed, &default()).unwrap());
    containers(&all, &observed, &default()).unwrap();
}

fn down(
    text: Option<&Stack>,
    observed: &Observed,
    options: &DownOptions,
) -> Result<Plan, PlanError> {
    let project = crate::spec::names::ProjectName::new("demo").unwrap();
    teardown::teardown(&project, text, observed, options)
}

#[test]
fn down_removes_dependents_first_and_needs_no_file() {
    let all = stack("db vol=data:/data\ncache depends:db\nweb scale=2 depends:cache");
    let mut observed = up(&all);
    // The order holds through one that has ended.
    *state_of(&mut observed, "demo-cache-1") = State::Exited { code: Some(0) };
    let expected = "
        [] -> #1 stop container demo-web-1: down
        [1] -> #2 remove container demo-web-1: down
        [] -> #3 stop container demo-web-2: down
        [3] -> #4 remove container demo-web-2: down
        [] -> #5 remove container demo-cache-1: down
        [~1,~3] -> #6 stop container demo-db-1: down
        [6] -> #7 remove container demo-db-1: down
        [2,4,5,7] -> #8 remove network demo_default: down";
    let options = DownOptions::default();
    check(down(Some(&all), &observed, &options), expected);
    check(down(None, &observed, &options), expected);
    let volumes = DownOptions {
        volumes: true,
        ..options
    };
    let expected = format!("{expected}\n[7] -> #9 remove volume demo_data: --volumes");
    check(down(Some(&all), &observed, &volumes), &expected);
    check(down(None, &observed, &volumes), &expected);
}

#[test]
fn down_of_some_and_of_nothing() {
    let all = stack("network front external\ndb net=back\nweb depends:db net=front net=back");
    let observed = up(&all);
    let options = DownOptions {
        services: vec!["db".to_owned()],
        volumes: true,
        ..DownOptions::default()
    };
    check(
        down(Some(&all), &observed, &options),
        "[] -> #1 stop container demo-db-1: down
         [1] -> #2 remove container demo-db-1: down
         warning: network `demo_back` is kept: still in use by demo-web-1",
    );
    // Without a file, dependents cannot be left: nothing says that they can do without.
    check(
        down(None, &observed, &options),
        "[] -> #1 stop container demo-web-1: down
         [1] -> #2 remove container demo-web-1: down
         [~1] -> #3 stop container demo-db-1: down
         [3] -> #4 remove container demo-db-1: down
         [2,4] -> #5 remove network demo_back: down",
    );
    check(
        down(Some(&all), &Observed::default(), &DownOptions::default()),
        "warning: no resource found to remove for project `demo`",
    );
    let orphans = up(&stack("old"));
    check(
        down(Some(&all), &orphans, &DownOptions::default()),
        "warning: found orphan containers (demo-old-1) for project `demo`: their services are not in the file; \
         `--remove-orphans` removes them
         warning: network `demo_default` is kept: still in use by demo-old-1",
    );
}

#[test]
fn stop_start_restart() {
    let text = "db check\nweb depends:db=healthy!\nside share=db";
    let all = stack(text);
    let mut observed = up(&all);
    let options = LifecycleOptions::default();
    check(
        lifecycle::stop(Some(&all), &observed, &options),
        "[] -> #1 stop container demo-side-1: stop
         [] -> #2 stop container demo-web-1: stop
         [~1,~2] -> #3 stop container demo-db-1: stop",
    );
    let db = LifecycleOptions {
        services: vec!["db".to_owned()],
        ..options.clone()
    };
    check(lifecycle::start(Some(&all), &observed, &options), "");
    check(
        lifecycle::restart(Some(&all), &observed, &db),
        "[] -> #1 stop container demo-side-1: restart
         [] -> #2 stop container demo-web-1: restart
         [~1,~2] -> #3 stop container demo-db-1: restart
         [1,3] -> #4 start container demo-db-1: restart
         [4] -> #5 start container demo-side-1: restart
         [4] -> #6 wait for demo-db-1 to be healthy: needed by web
         [2,6] -> #7 start container demo-web-1: restart",
    );
    for container in &mut observed.containers {
        container.state = State::Exited { code: Some(143) };
    }
    check(
        lifecycle::start(Some(&all), &observed, &options),
        "[] -> #1 start container demo-db-1: exited with 143
         [1] -> #2 start container demo-side-1: exited with 143
         [1] -> #3 wait for demo-db-1 to be healthy: needed by web
         [3] -> #4 start container demo-web-1: exited with 143",
    );
    check(
        lifecycle::start(Some(&all), &Observed::default(), &options),
        "error: service `db` has no container to start",
    );
}

#[test]
fn large_stacks_are_planned_in_linear_time() {
    let text: String = (0..500)
        .map(|n| {
            format!(
                "s{n} scale=2 env:A=1 vol=data:/data depends:s{}\n",
                n / 2 + 500
            )
        })
        .chain((500..750).map(|n| format!("s{n} check\n")))
        .collect();
    let all = stack(&text);
    let first = containers(&all, &bare(&all), &default()).unwrap();
    // A network, a volume, and a creation and a start of each.
    assert_eq!(first.steps.len(), 2 + 2 * (500 * 2 + 250));
    check(containers(&all, &up(&all), &default()), "");
}

#[test]
fn fields_of_a_service() {
    use crate::spec::model::network::{Port, PortRange, Protocol};
    let mut all = stack("web net=front vol=data:/data env:A=1");
    let web = all.services.values_mut().next().unwrap();
    web.command = Some(vec![
        "serve".to_owned(),
        "--password".to_owned(),
        "x".to_owned(),
    ]);
    web.stop_grace_period = Some(Duration::from_millis(1500));
    web.privileged = true;
    web.ports.push(Port {
        host_ip: Some("127.0.0.1".parse().unwrap()),
        published: Some(PortRange {
            first: 8080,
            last: 8080,
        }),
        target: 80,
        protocol: Protocol::Tcp,
    });
    let web = all.services.values().next().unwrap();
    let fields = super::fingerprint::service(&all, web, &default());
    let shown: Vec<String> = fields
        .iter()
        .map(|(path, value)| format!("{path} {value}"))
        .collect();
    assert_eq!(
        shown,
        [
            r#"command ["serve","--password","x"]"#,
            r#"environment.A "1""#,
            r#"image "app""#,
            r#"networks.front.name "demo_front""#,
            r#"ports ["127.0.0.1:8080:80/tcp"]"#,
            "privileged true",
            r#"stop_grace_period "1.5s""#,
            "volumes./data.copy true",
            r#"volumes./data.name "demo_data""#,
            "volumes./data.read_only false",
            r#"volumes./data.source "data""#,
            r#"volumes./data.target "/data""#,
            r#"volumes./data.type "volume""#,
        ]
    );
}

#[test]
fn lists_and_long_values_are_shown_safely() {
    use super::fingerprint::Change;
    let change = |old: serde_json::Value, new: serde_json::Value| {
        let change = Change {
            path: "command".to_owned(),
            old: Some(old),
            new: Some(new),
        };
        change.to_string()
    };
    assert_eq!(
        change(
            serde_json::json!(["serve", "--password", "x", "--api-key=y"]),
            serde_json::json!([])
        ),
        r#"command ["serve","--password","***","--api-key=***"] → []"#
    );
    assert_eq!(change("a b".into(), "".into()), r#"command "a b" → """#);
    let long = "x".repeat(100);
    assert_eq!(
        change(long.clone().into(), "y".into()),
        format!("command {}… → y", &long[..60])
    );
}
