//! The arguments of `stack image build`.

use std::path::PathBuf;

use clap::Args;

use super::docker_build::DockerBuildArgs;

/// `stack image build`.
#[derive(Debug, Args)]
pub(crate) struct ImageBuildArgs {
    /// Directory that the Dockerfile's `COPY` and `ADD` take from, or the URL of a git repository (`….git#REF:DIRECTORY`), a tar
    /// archive or a Dockerfile; `-` is a tar archive or a Dockerfile on standard input
    #[arg(value_name = "PATH")]
    pub(crate) context: String,
    /// Dockerfile; `-` is standard input [default: `Dockerfile` in PATH]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Name to give the image; may be repeated
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(crate) tag: Vec<String>,
    /// Build argument; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Run every step again
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub(crate) no_cache: bool,
    /// Run every step of a stage again; may be repeated, or names separated by commas
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Secret for `RUN --mount=type=secret`: `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`; may be repeated. Those called
    /// `HTTP_AUTH_TOKEN_<HOST>`, `HTTP_AUTH_HEADER_<HOST>`, `GIT_AUTH_TOKEN[.<HOST>]` and `GIT_AUTH_HEADER[.<HOST>]` log in where files
    /// and repositories come from
    #[arg(long, value_name = "SECRET")]
    pub(crate) secret: Vec<String>,
    /// Agent for `RUN --mount=type=ssh`, and as `default` for repositories by ssh: yours, that at a socket, or one made for key files;
    /// may be repeated
    #[arg(long, value_name = "ID[=SOCKET|KEY,…]")]
    pub(crate) ssh: Vec<String>,
    /// Line of `/etc/hosts` for `RUN`; may be repeated
    #[arg(long, value_name = "NAME:ADDRESS", value_delimiter = ',')]
    pub(crate) add_host: Vec<String>,
    /// Network for `RUN`: `default`, `none`, `host`, or the name of one
    #[arg(
        long,
        value_name = "NETWORK",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) network: String,
    /// Size of `/dev/shm` for `RUN`
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,
    /// Memory that a `RUN` may use
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// Limit for `RUN`: `nofile=1024:2048`; may be repeated
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Let `RUN` ask for `network.host`, `security.insecure`, `device` or `device=NAME`; may be repeated
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(crate) allow: Vec<String>,
    /// What stands for a stage or image of that name: a directory, `docker-image://REFERENCE`,
    /// `oci-layout://PATH[:TAG][@DIGEST]`, or the URL of a git repository or file; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) build_context: Vec<String>,
    /// Cache of elsewhere to look for steps in: the name of a cache or an image, or `type=local,src=DIRECTORY`; may be repeated
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_from: Vec<String>,
    /// Where to bring the cache: an image's name, `type=local,dest=DIRECTORY`, with `mode=max` every step, or with `type=inline` into the
    /// image itself; may be repeated
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_to: Vec<String>,
    /// Attest in the image where it is from: `true`, `false`, `mode=min` or `mode=max`, which tells build arguments and the Dockerfile
    /// too [default: false]
    #[arg(
        long,
        value_name = "BOOL|mode=MODE",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) provenance: String,
    /// Tell in the image what is in it: `true`, or the scanner's image (`generator=IMAGE`) [default: false]
    #[arg(
        long,
        value_name = "BOOL|generator=IMAGE",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) sbom: String,
    /// Say why each step that is done was not in the cache
    #[arg(long)]
    pub(crate) explain: bool,
    /// Label of the image; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Pull base images even if they are there
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub(crate) pull: bool,
    /// What the image is to run on, such as `linux/arm64`; several with commas between make one image of all [default: this machine]
    #[arg(long, value_name = "PLATFORM[,PLATFORM]")]
    pub(crate) platform: Vec<String>,
    /// Where the image goes in place of the store: `type=local|tar|oci|docker,dest=PATH`, or a directory for its files; may be repeated.
    /// `type=image` and `--load` keep it in the store too
    #[arg(short, long, value_name = "OUTPUT")]
    pub(crate) output: Vec<String>,
    /// Push every name when it is built
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub(crate) push: bool,
    /// Ask in place of building: `check` what is not wise in the Dockerfile (exit code 1 if anything is; base images that are not
    /// here are pulled), `outline` what its target takes, or which `targets` it has; with `,format=json` for programs, with
    /// `,ignorestatus` exit code 0 whatever is found
    #[arg(
        long,
        value_name = "METHOD[,format=json][,ignorestatus]",
        alias = "print",
        default_value = "build"
    )]
    pub(crate) call: String,
    /// The same as `--call=check`
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub(crate) check: bool,
    /// Attestation: `type=provenance[,mode=max][,builder-id=ID]` or `type=sbom[,generator=IMAGE]`
    #[arg(long, value_name = "ATTESTATION")]
    pub(crate) attest: Vec<String>,
    /// Something that the image's manifest says of it, or with `index:` its index; may be repeated
    #[arg(long, value_name = "[PLACE:]KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Keep the image in the store whatever the outputs are
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub(crate) load: bool,
    #[command(flatten)]
    pub(crate) docker: DockerBuildArgs,
    /// Write the image's names and digests to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Write the image's ID to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Print the image's ID alone, as with `--progress quiet`
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub(crate) quiet: bool,
}
