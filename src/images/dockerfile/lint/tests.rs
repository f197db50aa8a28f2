//! Dockerfiles and what is said of them.

use std::path::Path;

use super::super::expand::Variables;
use super::super::parser;
use super::*;

/// The warnings of a Dockerfile whose stages are all built, a line each; the build is given `VERSION=latest`.
fn warnings(text: &str, ignored: &[&str]) -> String {
    let file = parser::parse(Path::new("D"), text).unwrap();
    let options = Options::of(&file, None).unwrap();
    let automatic = [
        ("TARGETPLATFORM", "linux/amd64"),
        ("BUILDPLATFORM", "linux/amd64"),
    ];
    let mut globals: Variables = automatic
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    for argument in &file.arguments {
        if let Some(default) = &argument.default {
            let value = super::super::expand::expand(default, '\\', &globals).unwrap();
            globals.insert(argument.name.clone(), value);
        }
    }
    let defaults = globals.clone();
    let given = Variables::from([("VERSION".to_owned(), "latest".to_owned())]);
    globals.extend(given.clone());
    let is_image = |name: &str| !name.is_empty() && !name.ends_with(':');
    let mut found = super::file(&file, &options, &globals, &defaults, &is_image);
    let mut known: Vec<(Option<String>, Known)> = Vec::new();
    for own in &file.stages {
        let earlier = known
            .iter()
            .rev()
            .find(|(name, _)| name.as_ref() == Some(&own.base));
        let start = match earlier {
            Some((_, known)) => known.clone(),
            None => Known {
                variables: Variables::from([("PATH".to_owned(), "/bin".to_owned())]),
                ..Known::default()
            },
        };
        let reached = Reached {
            instructions: &own.instructions,
            globals: &globals,
            given: &given,
            leaves_out: &|path| ignored.contains(&path),
        };
        let (more, end) = stage(&file, &options, reached, start);
        found.extend(more);
        known.push((own.name.clone(), end));
    }
    found.sort();
    if let Err(error) = verdict(&options, &found) {
        return error;
    }
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Rows of the test below: a Dockerfile and its warnings.
const ROWS: &[(&str, &str)] = &[
    ("FROM scratch AS a\nCOPY x /x\n", ""),
    (
        "FROM scratch AS BadName\n",
        "StageNameCasing: Stage name 'BadName' should be lowercase (line 1)",
    ),
    (
        "FROM scratch as b\n",
        "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)",
    ),
    (
        "from scratch AS b\n",
        "FromAsCasing: 'AS' and 'from' keywords' casing do not match (line 1)",
    ),
    (
        "FROM scratch\nCOPY x \\\n\n.\nCOPY x \\\n.\n",
        "NoEmptyContinuation: Empty continuation line (line 4)",
    ),
    (
        "From scratch as base\nFROM scratch AS base2\n",
        "ConsistentInstructionCasing: Command 'From' should match the case of the command majority (uppercase) (line 1)",
    ),
    (
        "FROM scratch\ncopy x /foo\nCOPY x /bar\n",
        "ConsistentInstructionCasing: Command 'copy' should match the case of the command majority (uppercase) (line 2)",
    ),
    (
        "FROM scratch\ncopy x /foo\ncopy x /bar\ncopy x /baz\n",
        "ConsistentInstructionCasing: Command 'FROM' should match the case of the command majority (lowercase) (line 1)",
    ),
    ("from scratch\ncopy x /foo\ncopy x /bar\n", ""),
    (
        "FROM scratch AS b\nFROM scratch AS b\n",
        "DuplicateStageName: Duplicate stage name \"b\", stage names should be unique (line 2)",
    ),
    (
        "FROM scratch AS scratch\nFROM scratch AS context\n",
        "ReservedStageName: Stage name should not use the same name as reserved stage \"scratch\" (line 1)\n\
         ReservedStageName: Stage name should not use the same name as reserved stage \"context\" (line 2)",
    ),
    (
        "FROM scratch\nCMD x\n",
        "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 2)",
    ),
    ("FROM scratch\nSHELL [\"/s\"]\nENTRYPOINT x\n", ""),
    ("FROM scratch AS a\nSHELL [\"/s\"]\nFROM a\nCMD x\n", ""),
    (
        "FROM scratch\nMAINTAINER me\n",
        "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)",
    ),
    (
        "FROM scratch\n# check=skip=JSONArgsRecommended\nCMD x\n",
        "",
    ),
    (
        "FROM scratch\n# check=skip=MaintainerDeprecated // by intent\nMAINTAINER me\n",
        "",
    ),
    ("ARG b=scratch\nFROM $b\n", ""),
    (
        "FROM --platform=$BULIDPLATFORM scratch\n",
        "UndefinedArgInFrom: FROM argument 'BULIDPLATFORM' is not declared (did you mean BUILDPLATFORM?) (line 1)",
    ),
    (
        "ARG tag=latest\nFROM busybox:${tag}${version} AS b\n",
        "UndefinedArgInFrom: FROM argument 'version' is not declared (line 2)",
    ),
    ("ARG D\nFROM scra${D:-tch}\n", ""),
    (
        "FROM scratch\nWORKDIR app/\n",
        "WorkdirRelativePath: Relative workdir \"app/\" can have unexpected results if the base image changes (line 2)",
    ),
    (
        "FROM scratch AS a\nWORKDIR /app\nFROM a AS b\nWORKDIR sub/\n",
        "",
    ),
    ("FROM scratch\nARG foo\nCOPY x${foo} .\n", ""),
    ("FROM scratch AS a\nARG foo=x\nFROM a\nCOPY $foo .\n", ""),
    ("FROM scratch\nRUN echo $NONE\n", ""),
    (
        "FROM scratch\nCOPY $foo .\nARG foo=bar\n",
        "UndefinedVar: Usage of undefined variable '$foo' (line 2)",
    ),
    (
        "FROM scratch\nARG DIR_ASSETS=a/\nCOPY $DIR_ASSET .\n",
        "UndefinedVar: Usage of undefined variable '$DIR_ASSET' (did you mean $DIR_ASSETS?) (line 3)",
    ),
    (
        "FROM scratch\nENV PATH=$PAHT:/x\n",
        "UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?) (line 2)",
    ),
    (
        "FROM scratch\nCMD [\"a\"]\nENTRYPOINT [\"a\"]\nHEALTHCHECK CMD a\nCMD [\"b\"]\nENTRYPOINT [\"b\"]\nHEALTHCHECK NONE\n",
        "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used (line 2)\n\
         MultipleInstructionsDisallowed: Multiple ENTRYPOINT instructions should not be used in the same stage because only the last one will be used (line 3)\n\
         MultipleInstructionsDisallowed: Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used (line 4)",
    ),
    ("FROM scratch AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]\n", ""),
    (
        "FROM scratch\nENV k v\nLABEL k v\n",
        "LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format (line 2)\n\
         LegacyKeyValueFormat: \"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format (line 3)",
    ),
    (
        "FROM --platform=${TARGETPLATFORM} scratch\n",
        "RedundantTargetPlatform: Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior (line 1)",
    ),
    (
        "FROM scratch\nARG SECRET_PASSPHRASE\nENV SUPER_Secret=foo sunflower=x\nENV PUBLIC_KEY= password_file=x\nARG AUTH_MODULE_VERSION auth=1\n",
        "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"SECRET_PASSPHRASE\") (line 2)\n\
         SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"SUPER_Secret\") (line 3)\n\
         SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"auth\") (line 5)",
    ),
    (
        "FROM scratch\n# check=skip=SecretsUsedInArgOrEnv // allowed\nENV password=bar\n# check=skip=all // only here\nENV other_password=bar\n",
        "",
    ),
    (
        "ARG VERSION\nFROM busybox:$VERSION\n",
        "InvalidDefaultArgInFrom: Default value for ARG busybox:$VERSION results in empty or invalid base image name (line 2)",
    ),
    ("ARG VERSION=latest\nFROM busybox:${VERSION}\n", ""),
    ("ARG V\nFROM busybox:stable${V}\n", ""),
    (
        "FROM --platform=linux/amd64 scratch\n",
        "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/amd64\" (line 1)",
    ),
    ("FROM --platform=linux/amd64 scratch AS my_amd64\n", ""),
    ("FROM --platform=linux/amd64 scratch AS linux\n", ""),
    (
        "FROM scratch\nEXPOSE 80/TcP 8080/udp\n",
        "ExposeProtoCasing: Defined protocol '80/TcP' in EXPOSE instruction should be lowercase (line 2)",
    ),
    (
        "FROM scratch\nEXPOSE 127.0.0.1:80:80 8000\n",
        "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80' (line 2)",
    ),
    ("FROM scratch\nCOPY ignored .\n", ""),
    (
        "# check=experimental=CopyIgnoredFile\nFROM scratch\nCOPY ignored .\nADD ignored /x\nCOPY --from=x ignored .\n",
        "CopyIgnoredFile: Attempting to Copy file \"ignored\" that is excluded by .dockerignore (line 3)\n\
         CopyIgnoredFile: Attempting to Add file \"ignored\" that is excluded by .dockerignore (line 4)",
    ),
    (
        "# check=experimental=InvalidDefinitionDescription\n# bar is this\nARG foo=bar\n# base is this\nFROM scratch AS base\n# bad\nARG v=latest\n# bad\nARG a=1 b=2\n",
        "InvalidDefinitionDescription: Comment for ARG should follow the format: `# foo <description>` (line 3)\n\
         InvalidDefinitionDescription: Comment for ARG should follow the format: `# v <description>` (line 7)\n\
         InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>` (line 9)",
    ),
    ("#check=skip=all\nFROM scratch as base\ncopy x .\n", ""),
    (
        "#check=skip=all;error=true\nFROM scratch as base\ncopy x .\n",
        "",
    ),
    (
        "#check=skip=ConsistentInstructionCasing;error=true\nFROM scratch as base\ncopy x .\n",
        "lint violation found for rules: FromAsCasing",
    ),
    (
        "#check=error=true\nFROM scratch as base\ncopy x .\n",
        "lint violation found for rules: ConsistentInstructionCasing, FromAsCasing",
    ),
];

#[test]
fn dockerfiles_are_judged_as_docker_judges_them() {
    for (text, expected) in ROWS {
        assert_eq!(warnings(text, &["ignored"]), *expected, "{text}");
    }
}

#[test]
fn options_are_read() {
    let wrong = [
        ("skip", "invalid check option \"skip\""),
        ("skpi=x", "invalid check option \"skpi\""),
        (
            "error=maybe",
            "failed to parse check option \"error=maybe\"",
        ),
    ];
    for (text, expected) in wrong {
        assert_eq!(Options::parse(text), Err(expected.to_owned()), "{text}");
    }
    assert_eq!(Options::parse(" "), Ok(Options::default()));
    let file = parser::parse(Path::new("D"), "# check=error=true\nFROM a").unwrap();
    assert!(Options::of(&file, None).unwrap().error);
    assert!(!Options::of(&file, Some("skip=all")).unwrap().error);
}
