//! What a monitor does next. Pure: `(State, Input) -> (State, Vec<Effect>)`; the loop in [`super`] carries the effects out
//! and says what came of them. Times are since boot.
//!
//! ```text
//!             Begin                 Started              InitEnded, policy says so
//!   Starting ──────> (StartInit) ─────────> Running ─────────────────────────────> Waiting ──(back-off)──> Starting
//!                                   Stop, Restart, Shutdown │                         │ Stop
//!                                              Stopping <───┘──(InitEnded)──> Ended <─┘
//! ```
//!
//! Restarts (`docker run --restart`, moby restartmanager): 100 ms, doubled each time up to a minute, 100 ms again after a
//! run of 10 s. Health (moby daemon/health.go): failures in the start period do not count, the first success ends it.

use std::time::Duration;

use crate::runtime::config::{ContainerConfig, RestartPolicy};
use crate::runtime::record::HealthStatus;

/// How many probes are remembered.
pub const PROBES_KEPT: usize = 5;

/// Bound of one probe's remembered output, bytes.
pub const PROBE_OUTPUT_BYTES: usize = 4096;

/// First delay before a restart.
const DELAY: Duration = Duration::from_millis(100);

/// Longest delay before a restart of the init.
const LONGEST_DELAY: Duration = Duration::from_mins(1);

/// Longest delay before a restart of the sidecar, on which the names of others depend.
const LONGEST_SIDECAR_DELAY: Duration = Duration::from_secs(5);

/// A run of this length makes the delay short again.
const LONG_RUN: Duration = Duration::from_secs(10);

/// What a configuration says about all this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Restart policy.
    pub restart: RestartPolicy,
    /// The signal that asks to stop.
    pub stop_signal: i32,
    /// Time between that and SIGKILL, where the one who stops does not say.
    pub stop_timeout: Duration,
    /// Times of the health check.
    pub health: Option<HealthTimes>,
}

/// Times of a health check; see [`crate::runtime::config::HealthCheck`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthTimes {
    /// Between probes.
    pub interval: Duration,
    /// Longest run of a probe.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Failures during this time do not count.
    pub start_period: Duration,
    /// Between probes during the start period.
    pub start_interval: Duration,
}

impl Settings {
    /// Takes them from a configuration.
    pub fn of(config: &ContainerConfig) -> Self {
        Self {
            restart: config.restart,
            stop_signal: config.stop_signal,
            stop_timeout: config.stop_timeout,
            health: config.health.as_ref().map(|health| HealthTimes {
                interval: health.interval,
                timeout: health.timeout,
                retries: health.retries,
                start_period: health.start_period,
                start_interval: health.start_interval,
            }),
        }
    }
}

/// What the init is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// About to be started.
    Starting,
    /// Runs.
    Running {
        /// Since when.
        since: Duration,
    },
    /// Was asked to end.
    Stopping {
        /// When it is killed; `None` once that was done.
        kill_at: Option<Duration>,
        /// What follows.
        then: Then,
    },
    /// Ended; is started again.
    Waiting {
        /// When.
        until: Duration,
    },
    /// Ended for good.
    Ended,
}

impl State {
    /// Whether it is on its way to its end for good.
    pub fn is_stopping(&self) -> bool {
        match self.phase {
            Phase::Stopping { then, .. } => then == Then::End,
            Phase::Ended => true,
            Phase::Starting | Phase::Running { .. } | Phase::Waiting { .. } => false,
        }
    }
}

/// What follows a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    End,
    /// A new init.
    Restart,
}

/// What the health check is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checking {
    /// Nothing runs that could be checked.
    No,
    /// Waits for the next probe.
    Idle {
        /// When.
        next: Duration,
    },
    /// A probe runs.
    Probing {
        /// When it is killed.
        kill_at: Duration,
    },
}

/// What the sidecar is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sidecar {
    /// There is none.
    None,
    /// Runs.
    Running {
        /// Since when.
        since: Duration,
    },
    /// Died; is started again.
    Waiting {
        /// When.
        until: Duration,
    },
}

/// All that decisions depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// From the configuration of the current generation.
    pub settings: Settings,
    /// The init.
    pub phase: Phase,
    /// Whether an init has ever run.
    pub ran: bool,
    /// Restarts by policy.
    pub restarts: u32,
    /// Delay before the next one.
    pub delay: Duration,
    /// Health check.
    pub checking: Checking,
    /// Its verdict.
    pub health: HealthStatus,
    /// Failures that count, since the last success.
    pub failing_streak: u32,
    /// When the init that is checked was started.
    pub started: Duration,
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Delay before its next restart.
    pub sidecar_delay: Duration,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The monitor has been started to start an init.
    Begin,
    /// The monitor has been started to take over an init that runs, after so many restarts.
    Adopt {
        /// Restarts by policy so far.
        restarts: u32,
        /// When the init was started.
        started: Duration,
        /// The verdict so far.
        health: HealthStatus,
    },
    /// [`Effect::StartInit`] succeeded. The generation may be a new one.
    Started(Settings),
    /// It failed.
    StartFailed,
    /// The init has ended.
    InitEnded {
        /// Exit code.
        code: i32,
        /// Whether the record says that it was stopped by hand.
        by_hand: bool,
    },
    /// Someone wants it to end for good.
    Stop {
        /// Time until SIGKILL.
        timeout: Duration,
    },
    /// Someone wants a new init.
    Restart {
        /// Time until SIGKILL of the old one.
        timeout: Duration,
    },
    /// The host goes down: end, but it was not by hand.
    Shutdown,
    /// A deadline has passed.
    Tick,
    /// A probe has ended; `None`: it could not be run.
    ProbeEnded {
        /// Exit code.
        code: Option<i32>,
    },
    /// [`Effect::StartSidecar`] succeeded; whether there is one.
    SidecarStarted(bool),
    /// It failed, or the sidecar has died.
    SidecarEnded,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start an init and say [`Input::Started`] or [`Input::StartFailed`].
    StartInit,
    /// Send a signal to the init.
    Signal(i32),
    /// Send SIGKILL to every process of the container.
    KillAll,
    /// Start a probe; say [`Input::ProbeEnded`] when it has ended.
    StartProbe,
    /// Kill the probe that runs, because it took too long or its container has ended. It says nothing more.
    KillProbe,
    /// Call [`Sandbox::serve`](super::Sandbox::serve) and say [`Input::SidecarStarted`] or [`Input::SidecarEnded`].
    StartSidecar,
    /// Write the live state: something in it has changed.
    Publish,
    /// Record, flush, release, end.
    End,
}

/// Returns the state before anything has happened.
pub fn initial(settings: Settings) -> State {
    State {
        settings,
        phase: Phase::Starting,
        ran: false,
        restarts: 0,
        delay: DELAY,
        checking: Checking::No,
        health: HealthStatus::Starting,
        failing_streak: 0,
        started: Duration::ZERO,
        sidecar: Sidecar::None,
        sidecar_delay: DELAY,
    }
}

/// Returns when [`Input::Tick`] is due.
pub fn deadline(state: &State) -> Option<Duration> {
    let phase = match state.phase {
        Phase::Stopping { kill_at, .. } => kill_at,
        Phase::Waiting { until } => Some(until),
        Phase::Starting | Phase::Running { .. } | Phase::Ended => None,
    };
    let checking = match state.checking {
        Checking::No => None,
        Checking::Idle { next } => Some(next),
        Checking::Probing { kill_at } => Some(kill_at),
    };
    let sidecar = match state.sidecar {
        Sidecar::Waiting { until } => Some(until),
        Sidecar::None | Sidecar::Running { .. } => None,
    };
    [phase, checking, sidecar].into_iter().flatten().min()
}

/// Decides.
pub fn step(mut state: State, now: Duration, input: Input) -> (State, Vec<Effect>) {
    let effects = match input {
        Input::Begin => vec![Effect::StartSidecar, Effect::StartInit],
        Input::Adopt {
            restarts,
            started,
            health,
        } => {
            state.restarts = restarts;
            state.ran = true;
            state.phase = Phase::Running { since: started };
            state.started = started;
            begin_checking(&mut state, now);
            state.health = health;
            vec![Effect::StartSidecar, Effect::Publish]
        }
        Input::Started(settings) => {
            state.settings = settings;
            state.ran = true;
            state.phase = Phase::Running { since: now };
            state.started = now;
            begin_checking(&mut state, now);
            vec![Effect::Publish]
        }
        Input::StartFailed if !state.ran => end(&mut state),
        // A restart that cannot be is one that ended at once.
        Input::StartFailed => again(&mut state, now, 125, false),
        Input::InitEnded { code, by_hand } => init_ended(&mut state, now, code, by_hand),
        Input::Stop { timeout } => stop(&mut state, now, timeout, Then::End),
        Input::Restart { timeout } => stop(&mut state, now, timeout, Then::Restart),
        Input::Shutdown => {
            let timeout = state.settings.stop_timeout;
            stop(&mut state, now, timeout, Then::End)
        }
        Input::Tick => tick(&mut state, now),
        Input::ProbeEnded { code } => probe_ended(&mut state, now, code),
        Input::SidecarStarted(true) => {
            state.sidecar = Sidecar::Running { since: now };
            Vec::new()
        }
        Input::SidecarStarted(false) => {
            state.sidecar = Sidecar::None;
            Vec::new()
        }
        Input::SidecarEnded => sidecar_ended(&mut state, now),
    };
    (state, effects)
}

/// Decides what follows the end of an init.
fn init_ended(state: &mut State, now: Duration, code: i32, by_hand: bool) -> Vec<Effect> {
    let mut effects = stop_checking(state);
    // Processes that joined it, or share another's pid namespace, outlive it.
    effects.push(Effect::KillAll);
    effects.extend(match state.phase {
        Phase::Stopping {
            then: Then::Restart,
            ..
        } => {
            state.phase = Phase::Starting;
            vec![Effect::StartInit]
        }
        Phase::Stopping {
            then: Then::End, ..
        }
        | Phase::Ended => end(state),
        Phase::Running { since } => {
            if now.saturating_sub(since) >= LONG_RUN {
                state.delay = DELAY;
            }
            again(state, now, code, by_hand)
        }
        Phase::Starting | Phase::Waiting { .. } => again(state, now, code, by_hand),
    });
    effects
}

/// Starts it again after a while, if the policy says so.
fn again(state: &mut State, now: Duration, code: i32, by_hand: bool) -> Vec<Effect> {
    let wanted = match state.settings.restart {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max_retries } => {
            code != 0 && max_retries.is_none_or(|most| state.restarts < most)
        }
    };
    if by_hand || !wanted {
        return end(state);
    }
    state.phase = Phase::Waiting {
        until: now.saturating_add(state.delay),
    };
    state.delay = state.delay.saturating_mul(2).min(LONGEST_DELAY);
    vec![Effect::Publish]
}

/// Ends.
fn end(state: &mut State) -> Vec<Effect> {
    state.phase = Phase::Ended;
    state.checking = Checking::No;
    state.sidecar = Sidecar::None;
    vec![Effect::End]
}

/// Asks the init to end.
fn stop(state: &mut State, now: Duration, timeout: Duration, then: Then) -> Vec<Effect> {
    let kill_at = now.saturating_add(timeout);
    match state.phase {
        Phase::Running { .. } => {
            let at_once = timeout.is_zero();
            state.phase = Phase::Stopping {
                kill_at: (!at_once).then_some(kill_at),
                then,
            };
            let mut effects = stop_checking(state);
            effects.push(if at_once {
                Effect::KillAll
            } else {
                Effect::Signal(state.settings.stop_signal)
            });
            effects
        }
        Phase::Stopping {
            kill_at: before,
            then: first,
        } => {
            // The end outweighs a restart; the earlier deadline counts.
            let then = match (first, then) {
                (Then::Restart, Then::Restart) => Then::Restart,
                (Then::End, _) | (_, Then::End) => Then::End,
            };
            let kill_at = before.map(|before| before.min(kill_at));
            state.phase = Phase::Stopping { kill_at, then };
            Vec::new()
        }
        Phase::Waiting { .. } | Phase::Starting => match then {
            Then::End => end(state),
            Then::Restart => {
                state.phase = Phase::Starting;
                vec![Effect::StartInit]
            }
        },
        Phase::Ended => Vec::new(),
    }
}

/// Does what is due.
fn tick(state: &mut State, now: Duration) -> Vec<Effect> {
    let mut effects = Vec::new();
    match state.phase {
        Phase::Stopping {
            kill_at: Some(at),
            then,
        } if at <= now => {
            state.phase = Phase::Stopping {
                kill_at: None,
                then,
            };
            effects.push(Effect::KillAll);
        }
        Phase::Waiting { until } if until <= now => {
            state.restarts = state.restarts.saturating_add(1);
            state.phase = Phase::Starting;
            effects.push(Effect::StartInit);
        }
        Phase::Starting
        | Phase::Running { .. }
        | Phase::Stopping { .. }
        | Phase::Waiting { .. }
        | Phase::Ended => {}
    }
    match state.checking {
        Checking::Idle { next } if next <= now => {
            let timeout = match &state.settings.health {
                Some(times) => times.timeout,
                None => Duration::ZERO,
            };
            state.checking = Checking::Probing {
                kill_at: now.saturating_add(timeout),
            };
            effects.push(Effect::StartProbe);
        }
        Checking::Probing { kill_at } if kill_at <= now => {
            effects.push(Effect::KillProbe);
            effects.extend(probe_ended(state, now, None));
        }
        Checking::No | Checking::Idle { .. } | Checking::Probing { .. } => {}
    }
    if let Sidecar::Waiting { until } = state.sidecar
        && until <= now
    {
        // Whoever starts it says how that went.
        state.sidecar = Sidecar::Running { since: now };
        effects.push(Effect::StartSidecar);
    }
    effects
}

/// Waits for the first probe.
fn begin_checking(state: &mut State, now: Duration) {
    state.health = HealthStatus::Starting;
    state.failing_streak = 0;
    state.checking = match &state.settings.health {
        None => Checking::No,
        Some(_) => Checking::Idle {
            next: now.saturating_add(interval(state, now)),
        },
    };
}

/// Ends the check with its init.
fn stop_checking(state: &mut State) -> Vec<Effect> {
    let before = std::mem::replace(&mut state.checking, Checking::No);
    match before {
        Checking::Probing { .. } => vec![Effect::KillProbe],
        Checking::No | Checking::Idle { .. } => Vec::new(),
    }
}

/// Counts the result of a probe.
fn probe_ended(state: &mut State, now: Duration, code: Option<i32>) -> Vec<Effect> {
    let (Checking::Probing { .. }, Some(times)) = (state.checking, &state.settings.health) else {
        return Vec::new();
    };
    if code == Some(0) {
        state.health = HealthStatus::Healthy;
        state.failing_streak = 0;
    } else if !in_start_period(state, times, now) {
        state.failing_streak = state.failing_streak.saturating_add(1);
        if state.failing_streak >= times.retries {
            state.health = HealthStatus::Unhealthy;
        }
    }
    state.checking = Checking::Idle {
        next: now.saturating_add(interval(state, now)),
    };
    vec![Effect::Publish]
}

/// Tells whether failures do not count yet.
fn in_start_period(state: &State, times: &HealthTimes, now: Duration) -> bool {
    state.health == HealthStatus::Starting && now.saturating_sub(state.started) < times.start_period
}

/// Returns the time until the next probe.
fn interval(state: &State, now: Duration) -> Duration {
    match &state.settings.health {
        Some(times) if in_start_period(state, times, now) => times.start_interval,
        Some(times) => times.interval,
        None => Duration::ZERO,
    }
}

/// Starts the sidecar again after a while.
fn sidecar_ended(state: &mut State, now: Duration) -> Vec<Effect> {
    if state.phase == Phase::Ended {
        return Vec::new();
    }
    if let Sidecar::Running { since } = state.sidecar
        && now.saturating_sub(since) >= LONG_RUN
    {
        state.sidecar_delay = DELAY;
    }
    state.sidecar = Sidecar::Waiting {
        until: now.saturating_add(state.sidecar_delay),
    };
    state.sidecar_delay = state
        .sidecar_delay
        .saturating_mul(2)
        .min(LONGEST_SIDECAR_DELAY);
    Vec::new()
}

#[cfg(test)]
mod tests;
