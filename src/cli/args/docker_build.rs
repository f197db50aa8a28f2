//! Options of `docker build` that the builder has no use for: they are taken for the sake of scripts, or refused with a reason.
//!
//! What BuildKit ignores is ignored here, with a warning; what it does and this builder does not is an error (docker/buildx
//! `commands/build.go`, docker/cli `cli/command/image/build.go`).

use clap::Args;

/// See the module.
#[derive(Debug, Default, Args)]
pub(crate) struct DockerBuildArgs {
    #[arg(short = 'c', long, value_name = "N", hide = true)]
    cpu_shares: Option<i64>,
    #[arg(long, value_name = "N", hide = true)]
    cpu_period: Option<i64>,
    #[arg(long, value_name = "N", hide = true, allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    #[arg(long, value_name = "CPUS", hide = true)]
    cpuset_cpus: Option<String>,
    #[arg(long, value_name = "NODES", hide = true)]
    cpuset_mems: Option<String>,
    #[arg(long, value_name = "BYTES", hide = true, allow_negative_numbers = true)]
    memory_swap: Option<String>,
    #[arg(long, value_name = "OPTION", hide = true)]
    security_opt: Vec<String>,
    #[arg(long, value_name = "TECHNOLOGY", hide = true)]
    isolation: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    squash: bool,
    #[arg(long, value_name = "GROUP", hide = true)]
    cgroup_parent: Option<String>,
    #[arg(long, value_name = "COMMAND", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "")]
    invoke: Option<String>,
    #[arg(long, value_name = "WHEN", hide = true)]
    on: Option<String>,
    #[arg(long, value_name = "POLICY", hide = true)]
    policy: Vec<String>,
    #[arg(long, value_name = "FILE", hide = true)]
    server_config: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    detach: bool,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    stream: bool,
    /// Taken for the sake of scripts: warnings are whole anyhow
    #[arg(short = 'D', long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    debug: bool,
    /// Taken for the sake of scripts: no signatures of images are looked at
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", hide_default_value = true, hide_possible_values = true)]
    disable_content_trust: bool,
    /// Taken for the sake of scripts: there is one builder, and what it builds is in the store
    #[arg(long, value_name = "BUILDER", hide = true)]
    builder: Option<String>,
    /// Taken for the sake of scripts: nothing of a step stays but its layer
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    rm: bool,
    /// The same, also of one that failed
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    force_rm: bool,
    /// Taken for the sake of scripts: no context is sent anywhere
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    compress: bool,
}

impl DockerBuildArgs {
    /// Returns what is wrong with the first option that asks for what is not done.
    pub(crate) fn refused(&self) -> Option<String> {
        let own = "steps run in the control group of the instance, with `--memory` as their limit";
        let shell = "there is no shell in a build; `stack image build --target STAGE` and a container of that stage show what it has";
        let one = "there is one builder, in this process";
        let asked = |value: &Option<String>| value.as_ref().is_some_and(|text| !text.is_empty());
        let refused = [
            ("--cgroup-parent", asked(&self.cgroup_parent), own),
            ("--invoke", self.invoke.is_some(), shell),
            ("--on", self.on.is_some(), shell),
            (
                "--policy",
                !self.policy.is_empty(),
                "no policies of sources are read",
            ),
            ("--server-config", asked(&self.server_config), one),
            ("--detach", self.detach, one),
            (
                "--disable-content-trust=false",
                !self.disable_content_trust,
                "no signatures of images are looked at",
            ),
        ];
        let found = refused.into_iter().find(|(_, is_asked, _)| *is_asked);
        found.map(|(option, _, why)| format!("`{option}`: not supported: {why}"))
    }

    /// Returns a warning for each option that has no effect, with BuildKit or here.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let cpu = "steps share the processors with all else";
        let ignored = [
            ("--cpu-shares", self.cpu_shares.is_some(), cpu),
            ("--cpu-period", self.cpu_period.is_some(), cpu),
            ("--cpu-quota", self.cpu_quota.is_some(), cpu),
            ("--cpuset-cpus", self.cpuset_cpus.is_some(), cpu),
            ("--cpuset-mems", self.cpuset_mems.is_some(), cpu),
            (
                "--memory-swap",
                self.memory_swap.is_some(),
                "`--memory` is what limits steps",
            ),
            (
                "--security-opt",
                !self.security_opt.is_empty(),
                "`RUN --security=insecure` is how a step gets more rights",
            ),
            (
                "--isolation",
                self.isolation.is_some(),
                "steps run in containers, as always",
            ),
            (
                "--squash",
                self.squash,
                "every step is a layer of its own; a stage that copies from another one has only what it copies",
            ),
            ("--stream", self.stream, "the context is nowhere sent to"),
        ];
        let asked = ignored.into_iter().filter(|(_, is_asked, _)| *is_asked);
        asked
            .map(|(option, _, why)| format!("`{option}` is ignored, as with BuildKit: {why}"))
            .collect()
    }
}
