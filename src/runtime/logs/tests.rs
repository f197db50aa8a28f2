use super::reader::parse;
use super::writer::render;
use super::*;
use crate::runtime::config::LogConfig;

const START: i64 = 1_000_000_000_000_000_000;

fn limits(max_size_bytes: u64, max_files: u32) -> LogConfig {
    LogConfig {
        max_size_bytes,
        max_files,
    }
}

fn id() -> ContainerId {
    ContainerId::new(&"a".repeat(64)).unwrap()
}

/// A directory with a log, and its reader's and writer's sides.
fn log(config: LogConfig) -> (tempfile::TempDir, Logs, LogWriter) {
    let directory = tempfile::tempdir().unwrap();
    let logs = Logs::new(directory.path().to_owned());
    let writer = LogWriter::open(&logs.newest(&id()), config).unwrap();
    (directory, logs, writer)
}

/// Everything that a reader returns, as `stream:text` with `$` for the newline.
fn read_all(reader: &mut LogReader) -> Vec<String> {
    let mut entries = Vec::new();
    while reader.read(&mut entries).unwrap() {}
    entries.iter().map(show).collect()
}

fn show(entry: &Entry) -> String {
    let end = if entry.newline { "$" } else { "" };
    let text = String::from_utf8_lossy(&entry.text);
    format!("{}:{text}{end}", &entry.stream.word()[3..])
}

#[test]
fn records_are_as_the_format_says() {
    let time = Timestamp(1_763_721_771_123_456_789);
    let cases: &[(&[u8], &str)] = &[
        (b"a\n", "T stdout F a\n"),
        (b"a\nb", "T stdout F a\nT stdout P b\n"),
        (b"\n\n", "T stdout F \nT stdout F \n"),
        (b"", ""),
        (b"x y\r\n", "T stdout F x y\r\n"),
    ];
    for (bytes, expected) in cases {
        let mut out = Vec::new();
        render(&mut out, time, Stream::Stdout, bytes);
        let expected = expected.replace('T', "2025-11-21T10:42:51.123456789Z");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
    let mut out = Vec::new();
    let long = ["z".repeat(TEXT_BYTES + 1).as_bytes(), b"\n"].concat();
    render(&mut out, time, Stream::Stderr, &long);
    let lines: Vec<_> = out.split(|byte| *byte == b'\n').filter_map(parse).collect();
    let lengths: Vec<_> = lines.iter().map(|l| (l.full, l.text.len(), l.at)).collect();
    assert_eq!(lengths, [(false, TEXT_BYTES, time), (true, 1, time)]);
}

#[test]
fn what_is_not_a_record_is_none() {
    for text in [
        "",
        "x",
        "2025-11-21T10:42:51Z stdout F",
        "2025-11-21T10:42:51Z out F a",
        "2025-11-21T10:42:51Z stdout X a",
        "99 stdout F a",
    ] {
        assert_eq!(parse(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn pieces_are_joined_by_stream_and_an_unfinished_line_comes_at_the_end() {
    let (_directory, logs, mut writer) = log(limits(0, 1));
    let mut at = START;
    for (stream, bytes) in [
        (Stream::Stdout, "one "),
        (Stream::Stderr, "err\n"),
        (Stream::Stdout, "line\ntail"),
        (Stream::Stderr, "open"),
    ] {
        writer
            .append(Timestamp(at), stream, bytes.as_bytes())
            .unwrap();
        at += 1;
    }
    let mut reader = logs.open(&id(), ReadOptions::ALL).unwrap();
    assert_eq!(read_all(&mut reader), ["err:err$", "out:one line$"]);
    writer
        .append(Timestamp(at), Stream::Stdout, b"!\n")
        .unwrap();
    assert_eq!(read_all(&mut reader), ["out:tail!$"]);
    let left: Vec<_> = reader.finish().iter().map(show).collect();
    assert_eq!(left, ["err:open"]);
}

#[test]
fn a_half_record_of_a_killed_writer_spoils_nothing() {
    let (_directory, logs, mut writer) = log(limits(0, 1));
    writer
        .append(Timestamp(START), Stream::Stdout, b"whole\n")
        .unwrap();
    let path = logs.newest(&id());
    let mut bytes = fs_err::read(&path).unwrap();
    bytes.extend_from_slice(b"2025-11-21T10:4");
    crate::sys::atomic::write(&path, &bytes, 0o600, Durability::Cached).unwrap();
    let mut writer = LogWriter::open(&path, limits(0, 1)).unwrap();
    writer
        .append(Timestamp(START), Stream::Stdout, b"next\n")
        .unwrap();
    let mut reader = logs.open(&id(), ReadOptions::ALL).unwrap();
    assert_eq!(read_all(&mut reader), ["out:whole$", "out:next$"]);
}

#[test]
fn tail_since_until_and_streams_choose() {
    let (_directory, logs, mut writer) = log(limits(400, 50));
    for number in 0..40_u32 {
        let stream = if number % 2 == 0 {
            Stream::Stdout
        } else {
            Stream::Stderr
        };
        let at = Timestamp(START + i64::from(number));
        writer
            .append(at, stream, format!("{number} ").as_bytes())
            .unwrap();
        writer
            .append(at, stream, format!("{number}\n").as_bytes())
            .unwrap();
    }
    let numbers = |options: ReadOptions| -> Vec<u32> {
        let mut reader = logs.open(&id(), options).unwrap();
        let lines = read_all(&mut reader);
        let number = |line: &String| line.trim_end_matches('$').rsplit(' ').next()?.parse().ok();
        lines.iter().filter_map(number).collect()
    };
    let all = ReadOptions::ALL;
    let at = |number| Some(Timestamp(START + number));
    assert_eq!(numbers(all), (0..40).collect::<Vec<_>>());
    for count in [0, 1, 2, 3, 7, 25, 39, 40, 41, 1000] {
        let expected: Vec<_> = (40_u32.saturating_sub(count)..40).collect();
        let tail = Some(usize::try_from(count).unwrap());
        assert_eq!(numbers(ReadOptions { tail, ..all }), expected, "{count}");
    }
    let options = ReadOptions {
        since: at(37),
        ..all
    };
    assert_eq!(numbers(options), [37, 38, 39]);
    let options = ReadOptions {
        until: at(2),
        ..all
    };
    assert_eq!(numbers(options), [0, 1, 2]);
    let options = ReadOptions {
        stdout: false,
        tail: Some(4),
        ..all
    };
    assert_eq!(numbers(options), [37, 39]);
}

#[test]
fn a_follower_loses_nothing_through_rotations_and_old_files_go() {
    let (directory, logs, mut writer) = log(limits(1000, 3));
    let mut follower = Follower::new().unwrap();
    let log = follower
        .add(logs.open(&id(), ReadOptions::ALL).unwrap())
        .unwrap();
    let mut seen = Vec::new();
    let mut expected = Vec::new();
    for number in 0..500_i64 {
        let line = format!("line {number}");
        writer
            .append(
                Timestamp(START + number),
                Stream::Stdout,
                format!("{line}\n").as_bytes(),
            )
            .unwrap();
        expected.push(format!("out:{line}$"));
        // Not at every step: rotations happen between two looks.
        if number % 20 == 19 {
            assert_eq!(follower.grown().unwrap(), [log]);
            let mut entries = Vec::new();
            while follower.read(log, &mut entries).unwrap() {}
            seen.extend(entries.iter().map(show));
        }
    }
    assert_eq!(seen, expected);
    assert_eq!(follower.grown().unwrap(), Vec::<usize>::new());
    let mut names: Vec<_> = fs_err::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let base = format!("{}.log", id());
    assert_eq!(
        names,
        [base.clone(), format!("{base}.1"), format!("{base}.2")]
    );
    logs.forget(&id()).unwrap();
    assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 0);
}

/// Returns the old files from the first, each by what its last line says.
fn old_files(newest: &Path) -> Vec<String> {
    (1..)
        .map_while(|number| fs_err::read_to_string(numbered(newest, number)).ok())
        .map(|text| text.trim_end().rsplit(' ').next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_rotation_that_was_cut_short_goes_on_and_drops_no_file_early() {
    // Killed behind nothing, the last move up, all of them, the link.
    for killed in 0..4 {
        let (_directory, logs, mut writer) = log(limits(1, 4));
        let append = |writer: &mut LogWriter, text: &str| {
            let line = format!("{text}\n");
            let at = Timestamp(START);
            writer.append(at, Stream::Stdout, line.as_bytes()).unwrap();
        };
        for text in ["a", "b", "c", "d"] {
            append(&mut writer, text);
        }
        let path = logs.newest(&id());
        assert_eq!(old_files(&path), ["c", "b", "a"]);
        drop(writer);
        if killed > 0 {
            fs_err::rename(numbered(&path, 2), numbered(&path, 3)).unwrap();
        }
        if killed > 1 {
            fs_err::rename(numbered(&path, 1), numbered(&path, 2)).unwrap();
        }
        if killed > 2 {
            fs_err::hard_link(&path, numbered(&path, 1)).unwrap();
        }
        let mut writer = LogWriter::open(&path, limits(1, 4)).unwrap();
        append(&mut writer, "e");
        assert_eq!(old_files(&path), ["d", "c", "b"], "{killed}");
    }
}

#[test]
fn a_rotation_that_fails_drops_one_file_however_often_it_is_tried() {
    let (_directory, logs, mut writer) = log(limits(1, 4));
    for text in ["a", "b", "c", "d"] {
        let line = format!("{text}\n");
        let at = Timestamp(START);
        writer.append(at, Stream::Stdout, line.as_bytes()).unwrap();
    }
    let path = logs.newest(&id());
    // The link finds nothing to link to.
    let aside = with_suffix(&path, ".aside");
    fs_err::rename(&path, &aside).unwrap();
    for _ in 0..5 {
        writer
            .append(Timestamp(START), Stream::Stdout, b"e\n")
            .unwrap_err();
    }
    fs_err::rename(&aside, &path).unwrap();
    writer
        .append(Timestamp(START), Stream::Stdout, b"e\n")
        .unwrap();
    assert_eq!(old_files(&path), ["d", "c", "b"]);
}

#[test]
fn logs_of_gone_containers_are_kept_within_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let logs = Logs::new(directory.path().to_owned());
    let id = |number: u8| ContainerId::new(&format!("{number:064x}")).unwrap();
    // Ten bytes each, the fourth thirty of which some are rotated; 1 to 6 in order of time, two names.
    for number in 1..=6 {
        let index = LogIndex {
            version: VERSION,
            id: id(number),
            name: ["a", "b"][usize::from(number == 2 || number == 5)].to_owned(),
            created: Timestamp(number.into()),
            labels: BTreeMap::new(),
        };
        record::write(&logs.index(&id(number)), &index, Durability::Cached).unwrap();
        fs_err::write(logs.newest(&id(number)), [b'x'; 10]).unwrap();
    }
    fs_err::write(numbered(&logs.newest(&id(4)), 1), [b'x'; 20]).unwrap();
    let left = |bounds| {
        logs.prune_to(bounds, &|found| *found == id(1)).unwrap();
        let found = logs.list().unwrap();
        (1..=6)
            .filter(|number| found.iter().any(|index| index.id == id(*number)))
            .collect::<Vec<u8>>()
    };
    assert_eq!(left((3, 100)), [1, 2, 3, 4, 5, 6]);
    // One that is there counts for nothing and stays.
    assert_eq!(left((2, 100)), [1, 2, 4, 5, 6]);
    assert_eq!(left((2, 50)), [1, 4, 5, 6]);
    assert_eq!(left((2, 49)), [1, 5, 6]);
    let files = fs_err::read_dir(directory.path()).unwrap().count();
    assert_eq!(files, 6, "an index and a log each");
}
