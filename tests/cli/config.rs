//! `stack config`, from files to output and errors.

use insta::assert_snapshot;

use crate::command::run;

#[test]
fn no_file_is_said() {
    assert_snapshot!(run(&["config"]), @r"
    exit 1
    --- stderr
    error: loading is not written yet
    ");
}
