//! Who a process runs as: `user:` resolved in the container's own `/etc/passwd` and `/etc/group`.
//!
//! Both files come from the image and are hostile: a FIFO, a device, a huge file, a number that wraps. A number never falls
//! back to a name (CVE-2024-40635), and `4294967295`, which means "unchanged" to the kernel, is refused.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{FileType, OFlags, fstat};

use crate::sys::paths;

/// Largest file that is read, in bytes.
const MAX_FILE: usize = 1024 * 1024;

/// Most supplementary groups a process gets.
const MAX_GROUPS: usize = 1024;

/// The ids of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// User.
    pub(crate) uid: u32,
    /// Primary group.
    pub(crate) gid: u32,
    /// Supplementary groups, the primary one among them (CVE-2022-36109), sorted.
    pub(crate) groups: Vec<u32>,
    /// Home directory; `/` where unknown.
    pub(crate) home: String,
}

/// A line of `/etc/passwd`: `name:password:uid:gid:comment:home:shell`.
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// A line of `/etc/group`: `name:password:gid:member,member`.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Resolves `user` (`""`, `uid[:gid]`, `name[:group]`, mixed) and the additional `groups` with the two files' text.
///
/// Errors: a sentence that names what is not there or out of range.
pub(crate) fn resolve(
    user: &str,
    groups: &[String],
    passwd: &str,
    group: &str,
) -> Result<Identity, String> {
    let (user, primary) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let users: Vec<User<'_>> = passwd.lines().filter_map(parse_user).collect();
    let all: Vec<Group<'_>> = group.lines().filter_map(parse_group).collect();

    let (uid, known) = if let Some(uid) = number(user)? {
        (uid, users.iter().find(|line| line.uid == uid))
    } else {
        let line = users.iter().find(|line| line.name == user);
        let line = line.ok_or_else(|| format!("user `{user}` is not in /etc/passwd"))?;
        (line.uid, Some(line))
    };
    let gid = match primary {
        Some(primary) => group_id(primary, &all)?,
        None => known.map_or(0, |line| line.gid),
    };
    let mut ids = vec![gid];
    // As Docker: a group that is given replaces the user's memberships.
    if let (Some(line), None) = (known, primary) {
        let member = |group: &&Group<'_>| group.members.split(',').any(|name| name == line.name);
        ids.extend(all.iter().filter(member).map(|group| group.gid));
    }
    for group in groups {
        ids.push(group_id(group, &all)?);
    }
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > MAX_GROUPS {
        return Err(format!("user `{user}` is in more than {MAX_GROUPS} groups"));
    }
    let home = known.map(|line| line.home).filter(|home| !home.is_empty());
    Ok(Identity {
        uid,
        gid,
        groups: ids,
        home: home.unwrap_or("/").to_owned(),
    })
}

/// Reads a decimal id; `None` for what is no number at all.
fn number(text: &str) -> Result<Option<u32>, String> {
    let looks_numeric = text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+')
        && text
            .trim_start_matches(['-', '+'])
            .bytes()
            .all(|b| b.is_ascii_digit());
    if !looks_numeric {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id != u32::MAX && !text.starts_with('+') => Ok(Some(id)),
        _ => Err(format!("id `{text}` is not a number from 0 to 4294967294")),
    }
}

/// Resolves one group, by number or name.
fn group_id(text: &str, all: &[Group<'_>]) -> Result<u32, String> {
    if let Some(id) = number(text)? {
        return Ok(id);
    }
    let line = all.iter().find(|line| line.name == text);
    line.map(|line| line.gid)
        .ok_or_else(|| format!("group `{text}` is not in /etc/group"))
}

/// Reads a line; one that is malformed or out of range counts as absent.
fn parse_user(line: &str) -> Option<User<'_>> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let _password = fields.next()?;
    let uid = number(fields.next()?).ok()??;
    let gid = number(fields.next()?).ok()??;
    let _comment = fields.next();
    let home = fields.next().unwrap_or("");
    Some(User {
        name,
        uid,
        gid,
        home,
    })
}

/// Reads a line; one that is malformed or out of range counts as absent.
fn parse_group(line: &str) -> Option<Group<'_>> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let _password = fields.next()?;
    let gid = number(fields.next()?).ok()??;
    let members = fields.next().unwrap_or("");
    Some(Group { name, gid, members })
}

/// Reads one of the two files in `root`; a missing one is empty.
///
/// Errors: it is no regular file or too large, in a sentence.
pub(crate) fn read_database(root: BorrowedFd<'_>, path: &str) -> Result<String, String> {
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match paths::open(root, Path::new(path), flags) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(format!("{path}: {error}")),
    };
    let stat = fstat(&file).map_err(|errno| format!("{path}: {errno}"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(format!("{path} is not a regular file"));
    }
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 8192];
    loop {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut buffer))
            .map_err(|errno| format!("{path}: {errno}"))?;
        if read == 0 {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        bytes.extend(buffer.iter().take(read));
        if bytes.len() > MAX_FILE {
            return Err(format!("{path} is larger than {MAX_FILE} bytes"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        web:x:1000:1000::/home/web:/bin/sh\n\
        1000000000000:x:0:0::/evil:\n\
        huge:x:4294967296:0::/:\n\
        broken\n";
    const GROUP: &str = "root:x:0:root\nwheel:x:10:root,web\nweb:x:1000:\naudio:x:29:web\n";

    fn check(user: &str, groups: &[&str], expected: Result<(u32, u32, &[u32], &str), &str>) {
        let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        let expected = expected
            .map(|(uid, gid, groups, home)| Identity {
                uid,
                gid,
                groups: groups.to_vec(),
                home: home.to_owned(),
            })
            .map_err(str::to_owned);
        assert_eq!(resolve(user, &groups, PASSWD, GROUP), expected, "{user}");
    }

    #[test]
    fn names_numbers_and_groups() {
        check("", &[], Ok((0, 0, &[0, 10], "/root")));
        check("web", &[], Ok((1000, 1000, &[10, 29, 1000], "/home/web")));
        check("1000", &[], Ok((1000, 1000, &[10, 29, 1000], "/home/web")));
        check("web:audio", &[], Ok((1000, 29, &[29], "/home/web")));
        check("7", &[], Ok((7, 0, &[0], "/")));
        check("7:8", &["audio", "99"], Ok((7, 8, &[8, 29, 99], "/")));
    }

    #[test]
    fn numbers_never_become_names_or_wrap() {
        let range = |text: &str| format!("id `{text}` is not a number from 0 to 4294967294");
        for text in ["4294967296", "4294967295", "-1", "1000000000000", "+0"] {
            check(text, &[], Err(&range(text)));
        }
        check("0x0", &[], Err("user `0x0` is not in /etc/passwd"));
        check("huge", &[], Err("user `huge` is not in /etc/passwd"));
        check("web:nope", &[], Err("group `nope` is not in /etc/group"));
        check("web", &["-5"], Err(&range("-5")));
    }
}
