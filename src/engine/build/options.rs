//! Options of builds, as typed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use crate::images::archive::load::LayoutImage;
use crate::images::boolean::parse_bool;
use crate::images::build::{
    AgentSource, AllowedDevices, CacheExport, CachePlace, Entitlement, Limit, NamedContext,
    RemoteContext, SecretSource, StepNetwork,
};
use crate::images::dockerfile::mount::csv_fields;
use crate::images::{Packing, Reference};

/// What is wrong with an option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` of `{option}`: {message}")]
pub struct OptionError {
    /// `--secret`.
    pub option: &'static str,
    /// As typed.
    pub value: String,
    /// What is wrong with it.
    pub message: String,
}

/// Makes an error of an option's value.
pub(super) fn wrong(option: &'static str, value: &str, message: impl Into<String>) -> OptionError {
    OptionError {
        option,
        value: value.to_owned(),
        message: message.into(),
    }
}

/// Splits `key=value,key=value`.
pub(super) fn fields(
    option: &'static str,
    text: &str,
) -> Result<Vec<(String, String)>, OptionError> {
    let fields = csv_fields(text).map_err(|error| wrong(option, text, error.to_string()))?;
    let pairs = fields.iter().map(|field| {
        let pair = field.split_once('=');
        let (key, value) = pair.ok_or_else(|| wrong(option, text, "it must be key=value,…"))?;
        Ok((key.to_lowercase(), value.to_owned()))
    });
    pairs.collect()
}

/// Reads the truth value of a key of an option.
pub(super) fn truth(
    option: &'static str,
    text: &str,
    (key, value): (&str, &str),
) -> Result<bool, OptionError> {
    let wrong = || wrong(option, text, format!("{key} is `true` or `false`"));
    parse_bool(value).ok_or_else(wrong)
}

/// Reads `--secret id=NAME[,src=FILE|,env=VARIABLE][,type=file|env]` (docker/buildx `secret.go`): without a source, the variable of
/// that name where it is set, else the file.
pub(crate) fn secret(
    text: &str,
    directory: &Path,
    environment: &BTreeMap<String, String>,
) -> Result<(String, SecretSource), OptionError> {
    let option = "--secret";
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for (key, value) in fields(option, text)? {
        match key.as_str() {
            "id" => id = Some(value),
            "src" | "source" => file = Some(value),
            "env" => variable = Some(value),
            "type" if matches!(value.as_str(), "file" | "env") => kind = Some(value),
            "type" => return Err(wrong(option, text, "type is `file` or `env`")),
            _ => return Err(wrong(option, text, format!("unexpected key `{key}`"))),
        }
    }
    let id = id.filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| wrong(option, text, "it needs an id"))?;
    if kind.as_deref() == Some("env") && variable.is_none() {
        variable = file.take();
    }
    let source = match (file, variable) {
        (None, Some(name)) => SecretSource::Value(
            environment
                .get(&name)
                .cloned()
                .unwrap_or_default()
                .into_bytes(),
        ),
        (Some(path), _) => SecretSource::File(directory.join(path)),
        (None, None) => match environment.get(&id) {
            Some(value) if kind.as_deref() != Some("file") => {
                SecretSource::Value(value.clone().into_bytes())
            }
            _ => SecretSource::File(directory.join(&id)),
        },
    };
    if let SecretSource::File(path) = &source
        && !path.is_file()
    {
        let message = format!("there is no file `{}`", path.display());
        return Err(wrong(option, text, message));
    }
    Ok((id, source))
}

/// Reads `--ssh default|ID[=SOCKET|KEY[,KEY]…]` (docker/buildx `sshprovider`): which agent, and its socket or its keys. Without a path it is
/// the agent of whoever builds.
pub(crate) fn ssh(
    text: &str,
    directory: &Path,
    environment: &BTreeMap<String, String>,
) -> Result<(String, AgentSource), OptionError> {
    use std::os::unix::fs::FileTypeExt;
    let option = "--ssh";
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    let id = if id.is_empty() { "default" } else { id };
    let (mut sockets, mut keys) = (Vec::new(), Vec::new());
    let own = environment.get("SSH_AUTH_SOCK").map_or("", String::as_str);
    let paths = if paths.is_empty() { own } else { paths };
    if paths.is_empty() {
        let message = "there is no agent: SSH_AUTH_SOCK is not set";
        return Err(wrong(option, text, message));
    }
    for path in paths.split(',').map(|path| directory.join(path)) {
        match fs_err::metadata(&path) {
            Ok(metadata) if metadata.file_type().is_socket() => sockets.push(path),
            Ok(metadata) if metadata.is_file() => keys.push(path),
            Ok(_) => {
                let message = format!("`{}` is neither a socket nor a key", path.display());
                return Err(wrong(option, text, message));
            }
            Err(error) => return Err(wrong(option, text, crate::engine::reason(&error))),
        }
    }
    let source = match (sockets.pop(), keys) {
        (Some(socket), keys) if keys.is_empty() && sockets.is_empty() => {
            AgentSource::Socket(socket)
        }
        (Some(_), keys) if keys.is_empty() => {
            return Err(wrong(option, text, "only single socket allowed"));
        }
        (Some(_), _) => {
            let message = "invalid combination of keys and sockets";
            return Err(wrong(option, text, message));
        }
        (None, keys) => AgentSource::Keys(keys),
    };
    Ok((id.to_owned(), source))
}

/// Reads `--add-host NAME:ADDRESS`, or with `=`; an address of version 6 may stand in brackets, and `host-gateway`, which has none here, is
/// the machine.
pub(crate) fn host(text: &str) -> Result<(Option<IpAddr>, String), OptionError> {
    let option = "--add-host";
    let pair = text.split_once('=').or_else(|| text.split_once(':'));
    let (name, address) = pair.ok_or_else(|| wrong(option, text, "it must be name:address"))?;
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    if name.is_empty() {
        return Err(wrong(option, text, "the name is empty"));
    }
    if bare == "host-gateway" {
        return Ok((None, name.to_owned()));
    }
    match bare.parse() {
        Ok(address) => Ok((Some(address), name.to_owned())),
        Err(_) => Err(wrong(option, text, format!("`{address}` is no address"))),
    }
}

/// Reads `--network`.
pub(crate) fn network(text: &str) -> StepNetwork {
    match text {
        "" | "default" | "bridge" => StepNetwork::Own,
        "none" => StepNetwork::None,
        "host" => StepNetwork::Host,
        name => StepNetwork::Named(name.to_owned()),
    }
}

/// Reads `--ulimit NAME=SOFT[:HARD]`; -1 is no limit.
pub(crate) fn limit(text: &str) -> Result<Limit, OptionError> {
    let option = "--ulimit";
    let (name, values) = text
        .split_once('=')
        .ok_or_else(|| wrong(option, text, "it must be name=soft[:hard]"))?;
    if !crate::runtime::init::steps::is_limit(name) {
        return Err(wrong(option, text, format!("limit `{name}` is not known")));
    }
    let number = |text_of: &str| match text_of.parse::<i64>() {
        Ok(-1) => Ok(u64::MAX),
        Ok(number) => u64::try_from(number).map_err(|_| wrong(option, text, "it is negative")),
        Err(_) => Err(wrong(option, text, format!("`{text_of}` is no number"))),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(wrong(option, text, "the soft limit is above the hard one"));
    }
    Ok(Limit {
        name: name.to_owned(),
        soft,
        hard,
    })
}

/// Reads bytes with a unit of 1024: `64m`.
pub(crate) fn bytes(option: &'static str, text: &str) -> Result<u64, OptionError> {
    let found = crate::images::dockerfile::mount::parse_size(text);
    found.ok_or_else(|| wrong(option, text, "it must be a size such as 64m"))
}

/// What steps may ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) entitlements: BTreeSet<Entitlement>,
    pub(crate) devices: AllowedDevices,
}

/// Reads `--allow`: `network.host`, `security.insecure`, `device`, or `device=NAME[,alias=ALIAS]` (BuildKit `util/entitlements`).
pub(crate) fn allowed(typed: &[String]) -> Result<Allowed, OptionError> {
    let option = "--allow";
    let mut allowed = Allowed::default();
    for text in typed {
        if let Some(device) = text.strip_prefix("device=").filter(|rest| !rest.is_empty()) {
            let (name, rest) = device.split_once(',').unwrap_or((device, ""));
            let alias = match rest.split_once('=') {
                Some(("alias", alias)) if !alias.is_empty() => alias,
                None if rest.is_empty() => name,
                _ => return Err(wrong(option, text, "it must be device=NAME[,alias=ALIAS]")),
            };
            allowed.devices.insert(alias.to_owned(), name.to_owned());
            continue;
        }
        let message = "it must be network.host, security.insecure, device or device=NAME";
        let found = Entitlement::parse(text).ok_or_else(|| wrong(option, text, message));
        allowed.entitlements.insert(found?);
    }
    Ok(allowed)
}

/// Reads `--build-context NAME=VALUE`.
pub(crate) fn context(text: &str, directory: &Path) -> Result<(String, NamedContext), OptionError> {
    let option = "--build-context";
    let pair = text
        .split_once('=')
        .filter(|(name, value)| !name.is_empty() && !value.is_empty());
    let (name, value) = pair.ok_or_else(|| wrong(option, text, "it must be name=value"))?;
    let context =
        named_context(value, directory).map_err(|message| wrong(option, text, message))?;
    Ok((name.to_owned(), context))
}

/// Reads what a named context is.
pub(crate) fn named_context(value: &str, directory: &Path) -> Result<NamedContext, String> {
    if let Some(reference) = value.strip_prefix("docker-image://") {
        let reference = Reference::parse(reference).map_err(|error| error.to_string())?;
        return Ok(NamedContext::Image(reference));
    }
    if let Some(layout) = value.strip_prefix("oci-layout://") {
        let layout = LayoutImage::parse(layout, directory).map_err(|error| error.to_string())?;
        return Ok(NamedContext::Layout(layout));
    }
    match RemoteContext::parse(value) {
        Ok(Some(remote)) => return Ok(NamedContext::Remote(remote)),
        Ok(None) => {}
        Err(error) => return Err(error.to_string()),
    }
    Ok(NamedContext::Directory(directory.join(value)))
}

/// What an option about caches asks for, or why that is not done.
pub(crate) type CacheOption<T> = Result<T, String>;

/// Reads `--cache-from`: an image's name, or `type=registry,ref=…`, `type=local,src=…` (docker/buildx `util/buildflags/cache.go`).
pub(crate) fn cache_from(
    text: &str,
    directory: &Path,
) -> Result<CacheOption<CachePlace>, OptionError> {
    let option = "--cache-from";
    let mut asked = CacheFields::read(option, text)?;
    let place = asked.place("src", directory)?;
    asked.end(&["timeout"])?;
    Ok(place)
}

/// Reads `--cache-to`: as `--cache-from`, with `dest=…`, `mode=min|max`, `compression=…`, `compression-level=…`,
/// `force-compression=…`, `ignore-error=…`; or
/// `type=inline`, which is of the image's own layers whatever the mode.
pub(crate) fn cache_to(
    text: &str,
    directory: &Path,
) -> Result<CacheOption<CacheExport>, OptionError> {
    let option = "--cache-to";
    let mut asked = CacheFields::read(option, text)?;
    let place = if asked
        .fields
        .get("type")
        .is_some_and(|kind| kind == "inline")
    {
        asked.take("type");
        CachePlace::Inline
    } else {
        match asked.place("dest", directory)? {
            Ok(place) => place,
            Err(why) => return Ok(Err(why)),
        }
    };
    let all = match asked.take("mode").as_deref() {
        None | Some("min") => false,
        Some("max") => true,
        Some(_) => return Err(wrong(option, text, "mode is `min` or `max`")),
    };
    let level = asked.take("compression-level").map(|text| text.parse());
    let level = level.transpose();
    let level = level.map_err(|_| wrong(option, text, "compression-level is no number"))?;
    let algorithm = asked.take("compression");
    let packing = Packing::new(algorithm.as_deref().unwrap_or("gzip"), level);
    let packing = packing.ok_or_else(|| wrong(option, text, "compression is `gzip` or `zstd`"))?;
    let may_fail = asked.is_on("ignore-error")?;
    let reset = asked.is_on("reset")?;
    if reset && !matches!(place, CachePlace::Local(..)) {
        return Err(wrong(option, text, "reset is for `type=local`"));
    }
    let force = asked.is_on("force-compression")?;
    // These say how another builder writes what is always written so here.
    asked.end(&["oci-mediatypes", "image-manifest"])?;
    Ok(Ok(CacheExport {
        place,
        all,
        packing,
        force,
        may_fail,
        reset,
    }))
}

/// The keys of an option about caches.
struct CacheFields<'a> {
    option: &'static str,
    text: &'a str,
    fields: BTreeMap<String, String>,
}

impl<'a> CacheFields<'a> {
    fn read(option: &'static str, text: &'a str) -> Result<Self, OptionError> {
        let fields = if text.contains('=') {
            fields(option, text)?.into_iter().collect()
        } else {
            let named = [("type", "registry"), ("ref", text)];
            named
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        };
        Ok(Self {
            option,
            text,
            fields,
        })
    }

    fn take(&mut self, key: &str) -> Option<String> {
        self.fields.remove(key)
    }

    /// Takes a truth value, which is false where there is none.
    fn is_on(&mut self, key: &str) -> Result<bool, OptionError> {
        let value = self.take(key);
        let read = value.map(|value| truth(self.option, self.text, (key, &value)));
        Ok(read.transpose()?.unwrap_or(false))
    }

    fn wrong(&self, message: impl Into<String>) -> OptionError {
        wrong(self.option, self.text, message)
    }

    /// Takes what says where the cache is; `path` is the key of a directory.
    fn place(
        &mut self,
        path: &str,
        directory: &Path,
    ) -> Result<CacheOption<CachePlace>, OptionError> {
        let kind = self.take("type").unwrap_or_else(|| "registry".to_owned());
        match kind.as_str() {
            "local" => {
                let found = self.take(path);
                let found = found.ok_or_else(|| self.wrong(format!("it needs a {path}")))?;
                let tag = self.take("tag").unwrap_or_else(|| "latest".to_owned());
                Ok(Ok(CachePlace::Local(directory.join(found), tag)))
            }
            "registry" => {
                let reference = self.take("ref");
                let reference = reference.ok_or_else(|| self.wrong("it needs a ref"))?;
                match Reference::parse(&reference) {
                    Ok(reference) => Ok(Ok(CachePlace::Registry(reference))),
                    Err(error) => Err(self.wrong(error.to_string())),
                }
            }
            "inline" | "gha" | "s3" | "azblob" => Ok(Err(format!(
                "`{}` of `{}` is ignored: caches are `type=local`, `type=registry` or `type=inline` here",
                self.text, self.option
            ))),
            _ => Err(self.wrong("type is `local` or `registry`")),
        }
    }

    /// Refuses what is left, but `known`.
    fn end(self, known: &[&str]) -> Result<(), OptionError> {
        let mut left = self.fields.keys();
        match left.find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(self.wrong(format!("not supported yet: key `{key}`"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_read() {
        let host_of = |text| {
            host(text).map(|(address, name)| match address {
                Some(address) => format!("{name} {address}"),
                None => format!("{name} machine"),
            })
        };
        let table = [
            ("a:1.2.3.4", Ok("a 1.2.3.4")),
            ("a=::1", Ok("a ::1")),
            ("a=host-gateway", Ok("a machine")),
            ("a:[::1]", Ok("a ::1")),
            ("a", Err("it must be name:address")),
            (":1.2.3.4", Err("the name is empty")),
            ("a:b", Err("`b` is no address")),
        ];
        for (text, expected) in table {
            let found = host_of(text).map_err(|error| error.message);
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(found, expected, "{text}");
        }
        let table = [
            ("nofile=10", Ok((10, 10))),
            ("nofile=10:20", Ok((10, 20))),
            ("nofile=5:-1", Ok((5, u64::MAX))),
            ("nofile=20:10", Err("the soft limit is above the hard one")),
            ("none=1", Err("limit `none` is not known")),
            ("nofile", Err("it must be name=soft[:hard]")),
        ];
        for (text, expected) in table {
            let found = limit(text).map(|limit| (limit.soft, limit.hard));
            let found = found.map_err(|error| error.message);
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn caches_are_local_or_in_registries() {
        let shown = |text: &str| match cache_to(text, Path::new("/w")) {
            Err(error) => error.message,
            Ok(Err(why)) => why,
            Ok(Ok(export)) => {
                let CacheExport {
                    place,
                    all,
                    packing,
                    force,
                    may_fail,
                    reset,
                } = export;
                let reset = if reset { " reset" } else { "" };
                let force = if force { " force" } else { "" };
                format!("{place} {all} {packing:?} {may_fail}{reset}{force}")
            }
        };
        let table = [
            ("a/b:c", "a/b:c false Gzip(6) false"),
            (
                "type=registry,ref=h:5000/a,mode=max",
                "h:5000/a:latest true Gzip(6) false",
            ),
            (
                "type=local,dest=c,compression=zstd,ignore-error=true,image-manifest=true",
                "/w/c false Zstd(3) true",
            ),
            ("type=inline", "inline false Gzip(6) false"),
            ("type=inline,reset=true", "reset is for `type=local`"),
            ("type=local", "it needs a dest"),
            ("type=registry", "it needs a ref"),
            ("type=registry,ref=A", "invalid"),
            ("type=local,dest=c,mode=x", "mode is `min` or `max`"),
            (
                "type=local,dest=c,reset=true",
                "/w/c false Gzip(6) false reset",
            ),
            (
                "type=local,dest=c,compression=zstd,force-compression=1",
                "/w/c false Zstd(3) false force",
            ),
            (
                "type=local,dest=c,force-compression=yes",
                "force-compression is `true` or `false`",
            ),
            (
                "type=local,dest=c,ignore-error=no",
                "ignore-error is `true` or `false`",
            ),
            ("type=local,dest=c,reset=", "reset is `true` or `false`"),
            (
                "type=registry,ref=a,reset=true",
                "reset is for `type=local`",
            ),
            ("type=x", "type is `local` or `registry`"),
            (
                "type=gha",
                "`type=gha` of `--cache-to` is ignored: caches are `type=local`, `type=registry` or `type=inline` here",
            ),
        ];
        for (text, expected) in table {
            let found = shown(text);
            assert!(found.starts_with(expected), "{text}: {found}");
        }
        let from = cache_from("type=local,src=/c,tag=t", Path::new("/w"));
        assert_eq!(from, Ok(Ok(CachePlace::Local("/c".into(), "t".to_owned()))));
    }

    #[test]
    fn what_is_allowed_is_read() {
        let read = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            allowed(&texts).map_err(|error| error.message)
        };
        let both = read(&[
            "network.host",
            "device=v/c=n,alias=v/c=a",
            "device=v/c",
            "device",
        ]);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let expected = Allowed {
            entitlements: [Entitlement::NetworkHost, Entitlement::Device].into(),
            devices: [pair("v/c=a", "v/c=n"), pair("v/c", "v/c")].into(),
        };
        assert_eq!(both, Ok(expected));
        for bad in ["device=x,y", "device=x,alias=", "all", ""] {
            assert!(
                read(&[bad]).unwrap_err().starts_with("it must be "),
                "{bad}"
            );
        }
    }

    #[test]
    fn agents_are_sockets_or_keys() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        for name in ["a", "b"] {
            fs_err::File::create(path(name)).unwrap();
        }
        let bind = |name| std::os::unix::net::UnixListener::bind(path(name)).unwrap();
        let _bound = [bind("s"), bind("t")];
        fs_err::create_dir(path("d")).unwrap();
        let socket = |name| AgentSource::Socket(path(name));
        let keys = |names: &[&str]| AgentSource::Keys(names.iter().map(|n| path(n)).collect());
        let mixed = "invalid combination of keys and sockets";
        let own = path("s").display().to_string();
        let environment = BTreeMap::from([("SSH_AUTH_SOCK".to_owned(), own)]);
        let table = [
            ("default", Ok(("default", socket("s")))),
            ("", Ok(("default", socket("s")))),
            ("id", Ok(("id", socket("s")))),
            ("id=t", Ok(("id", socket("t")))),
            ("id=a", Ok(("id", keys(&["a"])))),
            ("=a,b", Ok(("default", keys(&["a", "b"])))),
            ("id=a,s", Err(mixed)),
            ("id=s,a", Err(mixed)),
            ("id=s,t", Err("only single socket allowed")),
        ];
        for (text, expected) in table {
            let found = ssh(text, temp.path(), &environment).map_err(|error| error.message);
            let expected = expected
                .map(|(id, source)| (id.to_owned(), source))
                .map_err(str::to_owned);
            assert_eq!(found, expected, "{text}");
        }
        let fails = |text| {
            ssh(text, temp.path(), &BTreeMap::new())
                .unwrap_err()
                .message
        };
        assert_eq!(
            fails("default"),
            "there is no agent: SSH_AUTH_SOCK is not set"
        );
        assert!(fails("x=d").ends_with("is neither a socket nor a key"));
        assert!(
            fails("x=none").contains("No such file"),
            "{}",
            fails("x=none")
        );
    }

    #[test]
    fn secrets_come_from_files_and_variables() {
        let temp = tempfile::tempdir().unwrap();
        fs_err::File::create(temp.path().join("f")).unwrap();
        let environment = BTreeMap::from([("V".to_owned(), "value".to_owned())]);
        let file = || SecretSource::File(temp.path().join("f"));
        let value = || SecretSource::Value(b"value".to_vec());
        let table = [
            ("id=x,src=f", Ok(("x", file()))),
            ("id=x,source=f,type=file", Ok(("x", file()))),
            ("id=x,env=V", Ok(("x", value()))),
            ("id=x,src=V,type=env", Ok(("x", value()))),
            ("id=V", Ok(("V", value()))),
            ("id=f", Ok(("f", file()))),
            ("src=f", Err("it needs an id")),
            ("id=x,type=y", Err("type is `file` or `env`")),
            ("id=x,mode=1", Err("unexpected key `mode`")),
            ("x", Err("it must be key=value,…")),
        ];
        for (text, expected) in table {
            let found = secret(text, temp.path(), &environment).map_err(|error| error.message);
            let expected = expected
                .map(|(id, source)| (id.to_owned(), source))
                .map_err(str::to_owned);
            assert_eq!(found, expected, "{text}");
        }
        let missing = secret("id=none", temp.path(), &environment).unwrap_err();
        assert!(missing.message.starts_with("there is no file"), "{missing}");
    }
}
