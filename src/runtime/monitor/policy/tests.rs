use super::*;

/// `DELAY` and friends as the cases write them: milliseconds.
fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn settings(restart: RestartPolicy) -> Settings {
    Settings {
        restart,
        stop_signal: 15,
        stop_timeout: ms(10_000),
        health: None,
    }
}

fn checked() -> Settings {
    Settings {
        health: Some(HealthTimes {
            interval: ms(1000),
            timeout: ms(300),
            retries: 2,
            start_period: ms(500),
            start_interval: ms(100),
        }),
        ..settings(RestartPolicy::No)
    }
}

/// Feeds `script`, each input at its time in ms, and compares the effects of each and the next deadline in ms.
fn check(settings: &Settings, script: &[(u64, Input, &[Effect], Option<u64>)]) {
    let mut state = initial(settings.clone());
    for (number, (at, input, expected, next)) in script.iter().enumerate() {
        let (after, effects) = step(state, ms(*at), input.clone());
        assert_eq!(effects, *expected, "effects of {number}: {input:?} at {at}");
        let deadline = deadline(&after);
        assert_eq!(
            deadline,
            next.map(ms),
            "deadline after {number}: {input:?} at {at}: {after:?}"
        );
        state = after;
    }
}

fn ended(code: i32) -> Input {
    Input::InitEnded {
        code,
        by_hand: false,
    }
}

const BEGUN: &[Effect] = &[Effect::StartSidecar, Effect::StartInit];
const AGAIN: &[Effect] = &[Effect::KillAll, Effect::Publish];
const OVER: &[Effect] = &[Effect::KillAll, Effect::End];

#[test]
fn every_restart_policy_after_every_end() {
    let on_failure = |max_retries| RestartPolicy::OnFailure { max_retries };
    let cases = [
        (RestartPolicy::No, 1, false, OVER, None),
        (RestartPolicy::Always, 0, false, AGAIN, Some(150)),
        (RestartPolicy::Always, 0, true, OVER, None),
        (RestartPolicy::UnlessStopped, 3, false, AGAIN, Some(150)),
        (RestartPolicy::UnlessStopped, 3, true, OVER, None),
        (on_failure(None), 0, false, OVER, None),
        (on_failure(None), 1, false, AGAIN, Some(150)),
        (on_failure(Some(0)), 1, false, OVER, None),
        (on_failure(Some(1)), 137, false, AGAIN, Some(150)),
        (on_failure(Some(1)), 137, true, OVER, None),
    ];
    for (policy, code, by_hand, effects, next) in cases {
        let settings = settings(policy);
        check(
            &settings,
            &[
                (0, Input::Begin, BEGUN, None),
                (
                    0,
                    Input::Started(settings.clone()),
                    &[Effect::Publish],
                    None,
                ),
                (50, Input::InitEnded { code, by_hand }, effects, next),
            ],
        );
    }
}

#[test]
fn the_delay_doubles_up_to_a_minute_and_is_short_again_after_a_long_run() {
    let settings = settings(RestartPolicy::Always);
    let mut state = initial(settings.clone());
    let mut now = ms(0);
    let mut delays = Vec::new();
    for run in [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 10_000, 9_999] {
        (state, _) = step(state, now, Input::Started(settings.clone()));
        now += ms(run);
        (state, _) = step(state, now, ended(0));
        let until = deadline(&state).unwrap();
        delays.push(u64::try_from((until - now).as_millis()).unwrap());
        now = until;
        let effects;
        (state, effects) = step(state, now, Input::Tick);
        assert_eq!(effects, [Effect::StartInit]);
    }
    assert_eq!(
        (delays, state.restarts),
        (
            vec![
                100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000, 100,
                200
            ],
            14
        )
    );
}

#[test]
fn retries_in_a_row_are_bounded() {
    let settings = settings(RestartPolicy::OnFailure {
        max_retries: Some(2),
    });
    let started = || Input::Started(settings.clone());
    check(
        &settings,
        &[
            (0, Input::Begin, BEGUN, None),
            (0, started(), &[Effect::Publish], None),
            (1, ended(1), AGAIN, Some(101)),
            (101, Input::Tick, &[Effect::StartInit], None),
            (102, started(), &[Effect::Publish], None),
            (103, ended(1), AGAIN, Some(303)),
            (303, Input::Tick, &[Effect::StartInit], None),
            (304, Input::StartFailed, &[Effect::End], None),
        ],
    );
}

#[test]
fn a_stop_has_its_grace_and_ends_every_policy() {
    let settings = settings(RestartPolicy::Always);
    let started = || Input::Started(settings.clone());
    let stop = |timeout| Input::Stop {
        timeout: ms(timeout),
    };
    let term: &[Effect] = &[Effect::Signal(15)];
    // In time.
    check(
        &settings,
        &[
            (0, started(), &[Effect::Publish], None),
            (5, stop(3000), term, Some(3005)),
            (9, ended(143), OVER, None),
            (10, stop(1), &[], None),
        ],
    );
    // Not in time; asked twice, the earlier deadline counts.
    check(
        &settings,
        &[
            (0, started(), &[Effect::Publish], None),
            (5, stop(3000), term, Some(3005)),
            (6, stop(100), &[], Some(106)),
            (7, stop(9000), &[], Some(106)),
            (106, Input::Tick, &[Effect::KillAll], None),
            (107, ended(137), OVER, None),
        ],
    );
    // No grace at all; a shutdown; while it waits; while it has never run.
    check(
        &settings,
        &[
            (0, started(), &[Effect::Publish], None),
            (5, stop(0), &[Effect::KillAll], None),
            (6, ended(137), OVER, None),
        ],
    );
    check(
        &settings,
        &[
            (0, started(), &[Effect::Publish], None),
            (5, Input::Shutdown, term, Some(10_005)),
            (6, ended(0), OVER, None),
        ],
    );
    check(
        &settings,
        &[
            (0, started(), &[Effect::Publish], None),
            (5, ended(0), AGAIN, Some(105)),
            (6, stop(10), &[Effect::End], None),
        ],
    );
    check(
        &settings,
        &[
            (0, Input::Begin, BEGUN, None),
            (0, Input::StartFailed, &[Effect::End], None),
        ],
    );
}

#[test]
fn a_restart_by_hand_is_at_once_and_counts_for_no_policy() {
    let settings = settings(RestartPolicy::No);
    let started = || Input::Started(settings.clone());
    let restart = Input::Restart { timeout: ms(100) };
    check(
        &settings,
        &[
            (0, started(), &[Effect::Publish], None),
            (5, restart.clone(), &[Effect::Signal(15)], Some(105)),
            (105, Input::Tick, &[Effect::KillAll], None),
            (106, ended(137), &[Effect::KillAll, Effect::StartInit], None),
            (107, started(), &[Effect::Publish], None),
            // A stop that follows a restart wins over it.
            (200, restart, &[Effect::Signal(15)], Some(300)),
            (201, Input::Stop { timeout: ms(500) }, &[], Some(300)),
            (202, ended(0), OVER, None),
        ],
    );
}

#[test]
fn health_starts_fast_counts_failures_and_ends_with_its_init() {
    let settings = checked();
    let probe = &[Effect::StartProbe][..];
    let publish = &[Effect::Publish][..];
    let failed = || Input::ProbeEnded { code: Some(1) };
    check(
        &settings,
        &[
            (0, Input::Started(settings.clone()), publish, Some(100)),
            (100, Input::Tick, probe, Some(400)),
            // In the start period a failure does not count.
            (150, failed(), publish, Some(250)),
            (250, Input::Tick, probe, Some(550)),
            (
                260,
                Input::ProbeEnded { code: Some(0) },
                publish,
                Some(1260),
            ),
            (1260, Input::Tick, probe, Some(1560)),
            (1300, failed(), publish, Some(2300)),
            (2300, Input::Tick, probe, Some(2600)),
            // Out of time.
            (
                2600,
                Input::Tick,
                &[Effect::KillProbe, Effect::Publish],
                Some(3600),
            ),
            (3600, Input::Tick, probe, Some(3900)),
            (
                3601,
                ended(0),
                &[Effect::KillProbe, Effect::KillAll, Effect::End],
                None,
            ),
        ],
    );
}

#[test]
fn the_verdict_follows_the_probes() {
    let starting = HealthStatus::Starting;
    let (healthy, unhealthy) = (HealthStatus::Healthy, HealthStatus::Unhealthy);
    // Times of ends of probes, their codes, the verdict and streak after each.
    let cases: &[&[(u64, i32, HealthStatus, u32)]] = &[
        &[
            (100, 1, starting, 0),
            (499, 1, starting, 0),
            (600, 1, starting, 1),
            (900, 1, unhealthy, 2),
        ],
        &[
            (100, 0, healthy, 0),
            (200, 1, healthy, 1),
            (300, 1, unhealthy, 2),
            (400, 0, healthy, 0),
        ],
        &[(600, 1, starting, 1), (700, 0, healthy, 0)],
        &[
            (600, 1, starting, 1),
            (700, -1, unhealthy, 2),
            (800, 9, unhealthy, 3),
        ],
    ];
    for case in cases {
        let (mut state, _) = step(initial(checked()), ms(0), Input::Started(checked()));
        for (at, code, verdict, streak) in *case {
            state.checking = Checking::Probing {
                kill_at: ms(at + 1),
            };
            let code = Some(*code).filter(|code| *code >= 0);
            (state, _) = step(state, ms(*at), Input::ProbeEnded { code });
            assert_eq!(
                (state.health, state.failing_streak),
                (*verdict, *streak),
                "{case:?}"
            );
        }
    }
}

#[test]
fn a_dead_sidecar_comes_back_ever_more_slowly_while_the_container_runs() {
    let settings = settings(RestartPolicy::No);
    let start = &[Effect::StartSidecar][..];
    check(
        &settings,
        &[
            (0, Input::Begin, BEGUN, None),
            (0, Input::SidecarStarted(true), &[], None),
            (
                0,
                Input::Started(settings.clone()),
                &[Effect::Publish],
                None,
            ),
            (5, Input::SidecarEnded, &[], Some(105)),
            (105, Input::Tick, start, None),
            (105, Input::SidecarEnded, &[], Some(305)),
            (305, Input::Tick, start, None),
            (306, Input::SidecarStarted(true), &[], None),
            (20_306, Input::SidecarEnded, &[], Some(20_406)),
            (20_406, Input::Tick, start, None),
            (20_407, ended(0), OVER, None),
            (20_408, Input::SidecarEnded, &[], None),
        ],
    );
}

#[test]
fn an_adopted_init_goes_on_as_it_was() {
    let settings = checked();
    check(
        &settings,
        &[
            (
                50_000,
                Input::Adopt {
                    restarts: 3,
                    started: ms(1000),
                    health: HealthStatus::Healthy,
                },
                &[Effect::StartSidecar, Effect::Publish],
                Some(51_000),
            ),
            (50_000, Input::SidecarStarted(false), &[], Some(51_000)),
            (51_000, Input::Tick, &[Effect::StartProbe], Some(51_300)),
        ],
    );
}
