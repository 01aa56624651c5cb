use std::path::PathBuf;

use super::*;

fn exit(args: &[&str]) -> Exit {
    parse([&["mirror"], args].concat()).expect_err("no command")
}

#[test]
fn the_definition_holds_together() {
    definition().debug_assert();
}

#[test]
fn help_and_version_are_no_failure() {
    let version = exit(&["--version"]);
    assert_eq!(
        (version.code, version.text.as_str()),
        (EXIT_OK, concat!("mirror ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    for args in [&["--help"][..], &["run", "--help"], &["run", "-h"], &["help", "doctor"]] {
        assert_eq!(exit(args).code, EXIT_OK, "{args:?}");
    }
}

#[test]
fn every_flag_of_every_subcommand_has_a_help_text() {
    for command in definition().get_subcommands() {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for arg in command.get_arguments() {
            assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
        }
    }
}

#[test]
fn the_flags_of_run_are_those_of_the_manual() {
    let run = definition().find_subcommand("run").unwrap().clone();
    for flag in [
        "primary",
        "shadow",
        "interface",
        "netns",
        "pid",
        "percent",
        "sample-by",
        "methods",
        "path-prefix",
        "max-rps",
        "ordering",
        "connections",
        "host-suffix",
        "marker",
        "trace",
        "client-ip-header",
        "set-header",
        "add-header",
        "remove-header",
        "shards",
        "memory",
        "ring",
        "priority",
        "cpu-budget",
        "duration",
        "attach",
        "json",
        "verbose",
        "admin",
        "seed",
        "name",
        "shadow-ca",
        "shadow-server-name",
        "max-in-flight",
        "max-connections",
        "max-queued-bytes",
        "connect-timeout",
        "head-timeout",
        "idle-timeout",
    ] {
        assert!(run.get_arguments().any(|arg| arg.get_long() == Some(flag)), "--{flag}");
    }
}

#[test]
fn a_typing_error_is_said_in_one_line_with_the_usage_code() {
    let run = ["run", "--primary", ":80", "--shadow", "http://a"];
    let table: [(Vec<&str>, &str); 6] = [
        (
            vec![],
            "'mirror' requires a subcommand but one was not provided [subcommands: run, doctor, inspect, replay, record, cleanup, completions, man, help]; see mirror --help",
        ),
        (vec!["rum"], "unrecognized subcommand 'rum'; a similar subcommand exists: 'run'; see mirror --help"),
        (
            vec!["run", "--shadow", "http://a"],
            "the following required arguments were not provided: --primary <[IP]:PORT>; see mirror run --help",
        ),
        (
            [&run[..], &["--trace", "loud"]].concat(),
            "invalid value 'loud' for '--trace <MODE>' [possible values: keep, unsampled, drop]; see mirror run --help",
        ),
        (
            [&run[..], &["--percnt", "5"]].concat(),
            "unexpected argument '--percnt' found; a similar argument exists: '--percent'; see mirror run --help",
        ),
        (
            [&run[..], &["--seed", "x"]].concat(),
            "invalid value 'x' for '--seed <NUMBER>': invalid digit found in string; see mirror run --help",
        ),
    ];
    for (args, text) in table {
        let exit = exit(&args);
        assert_eq!((exit.code, exit.text.as_str()), (EXIT_USAGE, text));
        assert_eq!(exit.to_string(), format!("mirror: {text}"));
    }
}

#[test]
fn a_failure_is_one_line_that_says_no_cause_twice() {
    let cause = io::Error::other("no such thing");
    let error = anyhow::Error::new(cause).context("eth9: no such thing; name another").context("tapping\nit");
    assert_eq!(in_a_line(&error), "tapping it: eth9: no such thing; name another");
    let error = anyhow::Error::new(io::Error::other("why")).context("what");
    assert_eq!(in_a_line(&error), "what: why");
}

#[test]
fn what_config_refuses_has_the_usage_code() {
    let cli = parse(["mirror", "run", "--primary", "x", "--shadow", "http://a"]).unwrap();
    let Command::Run(flags) = cli.command else { panic!("run") };
    let exit = Exit::from(crate::config::resolve(&flags, 0).unwrap_err());
    assert_eq!(exit.code, EXIT_USAGE);
    assert!(exit.to_string().starts_with("mirror: --primary x: "), "{exit}");
}

#[test]
fn doctor_and_cleanup_take_their_flags() {
    let args = ["mirror", "doctor", "--primary", ":80", "--interface", "lo", "--pid", "7", "--json"];
    let Command::Doctor(flags) = parse(args).unwrap().command else { panic!("doctor") };
    let resolved = crate::config::resolve_doctor(&flags).unwrap();
    assert_eq!(resolved.primary.unwrap().port, 80);
    assert_eq!(resolved.tap.namespace, crate::config::Namespace::Pid(7));
    assert!(resolved.json);

    let args = ["mirror", "cleanup", "--netns", "a", "--netns", "/b", "--dry-run", "--json"];
    let Command::Cleanup(flags) = parse(args).unwrap().command else { panic!("cleanup") };
    assert_eq!(flags.netns, ["a", "/b"]);
    assert!(flags.dry_run && flags.json);
}

#[test]
fn completions_know_flags_and_their_values() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        completions(shell, &mut script).unwrap();
        let script = String::from_utf8(script).unwrap();
        for word in ["path-prefix", "unsampled", "per-client", "doctor"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn manual_pages_are_one_for_each_subcommand() {
    let dir = std::env::temp_dir().join(format!("mirror-man-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let mut paths = Vec::new();
    let written = man(Some(&dir), &mut paths);
    let page = |name: &str| std::fs::read_to_string(dir.join(name));
    let pages = ["mirror.1", "mirror-run.1", "mirror-doctor.1", "mirror-cleanup.1"].map(page);
    std::fs::remove_dir_all(&dir).unwrap();
    written.unwrap();
    let [top, run, doctor, cleanup] = pages.map(Result::unwrap);
    assert!(top.contains(".TH mirror 1") && top.contains("mirror\\-run(1)"), "{top}");
    assert!(run.contains(".TH mirror-run 1") && run.contains("\\-\\-path\\-prefix"), "{run}");
    assert!(doctor.contains("\\-\\-primary") && cleanup.contains("\\-\\-dry\\-run"));
    assert!(String::from_utf8(paths).unwrap().lines().all(|path| PathBuf::from(path).starts_with(&dir)));

    let mut stdout = Vec::new();
    man(None, &mut stdout).unwrap();
    assert_eq!(String::from_utf8(stdout).unwrap(), top);
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let error = man(Some(std::path::Path::new("/nonexistent")), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().starts_with("cannot write /nonexistent/mirror.1: "), "{error}");
}
