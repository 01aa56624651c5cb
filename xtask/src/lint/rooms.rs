//! The rooms of mirror-agent: who may import whom, which rooms are pure, and where unsafe code may stand.

use std::collections::BTreeSet;

use super::rules::Finding;
use super::source::{self, Token, closing, reads};
use super::tree::Tree;

const SOURCES: &str = "mirror-agent/src/";

/// One room, and what it may know of the others.
struct Room {
    name: &'static str,
    /// Bytes and time in, values out.
    pure: bool,
    may_import: May,
}

enum May {
    /// These rooms only.
    Only(&'static [&'static str]),
    /// All but `app`, which nobody imports.
    All,
}

const fn room(name: &'static str, may_import: May) -> Room {
    Room { name, pure: false, may_import }
}

const fn pure(name: &'static str, may_import: May) -> Room {
    Room { name, pure: true, may_import }
}

/// The table. A room that is not in it is a finding: it must be given its place first.
const ROOMS: &[Room] = &[
    // Only mirror-common, and only here aya.
    room("kernel", May::Only(&[])),
    pure("packet", May::Only(&[])),
    pure("flow", May::Only(&["packet"])),
    pure("http", May::Only(&["packet", "flow"])),
    // Both directions of a connection, for sources that have both.
    pure("dialog", May::Only(&["packet", "flow", "http"])),
    pure("plan", May::Only(&["packet", "flow", "http"])),
    room("replay", May::Only(&["packet", "flow", "http", "plan"])),
    room("stats", May::Only(&["packet", "flow", "http", "plan", "replay"])),
    room("capture", May::Only(&["packet"])),
    // From the rings to files.
    room("record", May::Only(&["packet", "flow", "http", "stats", "capture"])),
    room(
        "pipeline",
        May::Only(&["packet", "flow", "http", "dialog", "plan", "replay", "stats", "kernel", "capture"]),
    ),
    room("config", May::Only(&["packet", "flow", "http", "plan", "replay", "stats", "record"])),
    room("api", May::Only(&["stats", "config"])),
    room(
        "cli",
        May::Only(&[
            "packet", "flow", "http", "dialog", "plan", "replay", "stats", "kernel", "capture", "record",
            "config", "api",
        ]),
    ),
    room("app", May::All),
    room("main", May::All),
    room("lib", May::All),
    // The root of the fuzz targets' package.
    room("fuzz", May::All),
];

/// Words that no pure room uses: runtimes, sockets, clocks.
const IMPURE: &[&str] = &[
    "tokio",
    "aya",
    "mio",
    "nix",
    "libc",
    "socket2",
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "thread_rng",
];
/// Modules of std that no pure room uses.
const IMPURE_STD: &[&str] = &["fs", "env", "thread", "process"];

/// Where unsafe code may stand: files, or directories with their `/`.
const UNSAFE_PLACES: &[&str] = &[
    "mirror-agent/src/kernel.rs",
    "mirror-agent/src/kernel/",
    "mirror-ebpf/",
    "mirror-common/src/pod.rs",
    "tests/src/kernel.rs",
    "tests/src/kernel/",
];

/// Rule `rooms`.
pub(super) fn imports(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, name, code) in rooms_in(tree, &mut findings) {
        let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
            findings.push(Finding::of(file, format!("room `{name}` is not in the table of lint/rooms.rs")));
            continue;
        };
        for (imported, line) in crate_paths(&code, depth(file)) {
            if imported == room.name {
                continue;
            }
            let what = if imported == "app" && !matches!(room.may_import, May::All) {
                "nobody imports `app`".to_owned()
            } else if !ROOMS.iter().any(|room| room.name == imported) {
                format!("`crate::{imported}` is no room of the table of lint/rooms.rs")
            } else {
                match room.may_import {
                    May::All => continue,
                    May::Only(rooms) if rooms.contains(&imported.as_str()) => continue,
                    May::Only([]) => {
                        format!("`{name}` imports `{imported}`; it may import no room")
                    }
                    May::Only(rooms) => {
                        format!("`{name}` imports `{imported}`; it may import {}", rooms.join(", "))
                    }
                }
            };
            findings.push(Finding::at(file, line, what));
        }
        if name != "kernel" {
            let aya = code.iter().filter(|token| token.text == "aya" || token.text == "aya_log");
            findings
                .extend(aya.map(|token| Finding::at(file, token.line, "aya belongs into the kernel room")));
        }
    }
    dedup(findings)
}

/// Rule `pure`.
pub(super) fn purity(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut unreadable = Vec::new();
    for (file, name, code) in rooms_in(tree, &mut unreadable) {
        if !ROOMS.iter().any(|room| room.name == name && room.pure) {
            continue;
        }
        for token in &code {
            if IMPURE.contains(&token.text.as_str()) {
                findings.push(Finding::at(
                    file,
                    token.line,
                    format!("the pure room `{name}` names `{}`", token.text),
                ));
            }
        }
        for (module, line) in paths_from(&code, "std") {
            if IMPURE_STD.contains(&module.as_str()) {
                findings.push(Finding::at(
                    file,
                    line,
                    format!("the pure room `{name}` names `std::{module}`"),
                ));
            }
        }
        for (map, line) in hash_walks(&code) {
            let what = format!(
                "`{map}` is walked in hash order, which differs from run to run: keep an order beside it"
            );
            findings.push(Finding::at(file, line, what));
        }
    }
    dedup(findings)
}

/// Rule `unsafe`.
pub(super) fn unsafe_has_an_address(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.rust() {
        let allowed = UNSAFE_PLACES
            .iter()
            .any(|place| file == *place || (place.ends_with('/') && file.starts_with(place)));
        if allowed {
            continue;
        }
        match source::tokens(text) {
            Ok(tokens) => {
                let found =
                    tokens.iter().filter(|token| token.text == "unsafe" || token.text == "unsafe_code");
                findings.extend(
                    found.map(|token| Finding::at(file, token.line, "unsafe code has no place here")),
                );
            }
            Err((line, error)) => findings.push(Finding::at(file, line, error)),
        }
    }
    dedup(findings)
}

fn dedup(findings: Vec<Finding>) -> Vec<Finding> {
    findings.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Every file of mirror-agent with its room and its code, tests left out.
fn rooms_in<'t>(tree: &'t Tree, findings: &mut Vec<Finding>) -> Vec<(&'t str, &'t str, Vec<Token>)> {
    let mut found = Vec::new();
    for (file, text) in tree.code() {
        let Some(inside) = file.strip_prefix(SOURCES) else { continue };
        let name = inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs");
        match source::tokens(text) {
            Ok(tokens) => {
                let tests = source::test_modules(&tokens);
                let kept = tokens.into_iter().enumerate();
                let code = kept.filter(|(index, _)| !tests.iter().any(|range| range.contains(index)));
                found.push((file, name, code.map(|(_, token)| token).collect()));
            }
            Err((line, error)) => findings.push(Finding::at(file, line, error)),
        }
    }
    found
}

/// How many modules a file's own module is below the crate's root.
fn depth(file: &str) -> usize {
    let inside = file.strip_prefix(SOURCES).unwrap_or(file);
    if inside == "lib.rs" || inside == "main.rs" { 0 } else { inside.split('/').count() }
}

/// The first name after the crate's root, and its line, of every path that starts there: `crate::name`, or as many
/// `super` as the module is deep.
fn crate_paths(code: &[Token], file_depth: usize) -> Vec<(String, usize)> {
    let mut found = paths_from(code, "crate");
    // Ends of the inline modules that the walk is in.
    let mut inline_ends: Vec<usize> = Vec::new();
    let mut at = 0;
    while at < code.len() {
        inline_ends.retain(|end| at <= *end);
        if reads(code, at, &["mod"])
            && reads(code, at + 2, &["{"])
            && let Some(end) = closing(code, at + 2)
        {
            inline_ends.push(end);
        }
        let mut supers = 0;
        while reads(code, at + 3 * supers, &["super", ":", ":"]) {
            supers += 1;
        }
        if supers > 0 {
            at += 3 * supers;
            if supers == file_depth + inline_ends.len() {
                found.extend(names_at(code, at));
            }
        } else {
            at += 1;
        }
    }
    found
}

/// The same for every path that starts with `root::`.
fn paths_from(code: &[Token], root: &str) -> Vec<(String, usize)> {
    let starts = (0..code.len()).filter(|at| reads(code, *at, &[root, ":", ":"]));
    starts.flat_map(|at| names_at(code, at + 3)).collect()
}

/// The name at `at`, or the first name of each branch of the `{...}` there.
fn names_at(code: &[Token], at: usize) -> Vec<(String, usize)> {
    let Some(first) = code.get(at) else { return Vec::new() };
    if first.text != "{" {
        return vec![(first.text.clone(), first.line)];
    }
    let Some(end) = closing(code, at) else { return Vec::new() };
    let mut names = Vec::new();
    let mut nesting = 0_usize;
    let mut starts_branch = true;
    for token in &code[at + 1..end] {
        match token.text.as_str() {
            "{" => nesting += 1,
            "}" => nesting = nesting.saturating_sub(1),
            "," if nesting == 0 => starts_branch = true,
            name if nesting == 0 && starts_branch => {
                names.push((name.to_owned(), token.line));
                starts_branch = false;
            }
            _ => {}
        }
    }
    names
}

/// Names that are declared as hash maps or sets in this code, where they are walked.
fn hash_walks(code: &[Token]) -> Vec<(String, usize)> {
    const WALKS: &[&str] = &[
        "iter",
        "iter_mut",
        "keys",
        "values",
        "values_mut",
        "into_iter",
        "into_keys",
        "into_values",
        "drain",
        "retain",
        "extract_if",
    ];
    let maps: BTreeSet<&str> = (0..code.len()).filter_map(|at| hash_declared(code, at)).collect();
    let mut found = Vec::new();
    for (at, token) in code.iter().enumerate() {
        if !maps.contains(token.text.as_str()) {
            continue;
        }
        let called = reads(code, at + 1, &["."])
            && code.get(at + 2).is_some_and(|method| WALKS.contains(&method.text.as_str()));
        if called || (reads(code, at + 1, &["{"]) && follows_in(code, at)) {
            found.push((token.text.clone(), token.line));
        }
    }
    found
}

/// The name that a `HashMap` or `HashSet` at `at` declares: `name: ... HashMap`, `let name = HashMap::...`.
fn hash_declared(code: &[Token], at: usize) -> Option<&str> {
    if !["HashMap", "HashSet"].contains(&code[at].text.as_str()) {
        return None;
    }
    let mut before = at;
    // Over a path, references and lifetimes, back to the `:` or `=` of the declaration.
    loop {
        let previous = code.get(before.checked_sub(1)?)?;
        match previous.text.as_str() {
            "&" | "mut" | "std" | "collections" => before -= 1,
            ":" if before >= 2 && code[before - 2].text == ":" => before -= 2,
            ":" | "=" => return code.get(before.checked_sub(2)?).map(|token| token.text.as_str()),
            _ => return None,
        }
    }
}

/// Whether the place expression that ends at `at` is what a `for` loop walks.
fn follows_in(code: &[Token], at: usize) -> bool {
    let mut before = at;
    while let Some(previous) = before.checked_sub(1).and_then(|index| code.get(index)) {
        match previous.text.as_str() {
            "in" => return true,
            "&" | "mut" | "." | "self" => before -= 1,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{imports, purity, unsafe_has_an_address};
    use crate::lint::tree::Tree;

    fn imports_of(file: &str, text: &str) -> Vec<String> {
        imports(&Tree::of(&[(file, text)])).into_iter().map(|finding| finding.to_string()).collect()
    }

    fn impurities_of(file: &str, text: &str) -> Vec<String> {
        purity(&Tree::of(&[(file, text)])).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_room_may_look_back_on_the_line() {
        assert!(
            imports_of("mirror-agent/src/plan/a.rs", "use crate::{flow::Start, http};\nuse super::b;")
                .is_empty()
        );
    }

    #[test]
    fn a_room_that_looks_ahead_on_the_line_is_found() {
        let found =
            imports_of("mirror-agent/src/flow/a.rs", "use crate::packet::Seq;\nuse crate::http::Version;");
        assert_eq!(found, ["mirror-agent/src/flow/a.rs:2: `flow` imports `http`; it may import packet"]);
    }

    #[test]
    fn a_branch_of_a_grouped_import_is_found() {
        let found = imports_of("mirror-agent/src/flow.rs", "use crate::{\n packet::{Seq, Peer},\n plan,\n};");
        assert_eq!(found, ["mirror-agent/src/flow.rs:3: `flow` imports `plan`; it may import packet"]);
    }

    #[test]
    fn a_path_in_an_expression_is_found() {
        let found = imports_of("mirror-agent/src/flow.rs", "fn a() { crate::stats::count(); }");
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_way_round_by_super_is_found_at_any_depth() {
        for (file, text) in [
            ("mirror-agent/src/flow.rs", "use super::plan::Decision;"),
            ("mirror-agent/src/flow/a.rs", "use super::super::plan::Decision;"),
            ("mirror-agent/src/flow/a.rs", "mod inner { use super::super::super::plan::Decision; }"),
        ] {
            assert_eq!(imports_of(file, text).len(), 1, "{file}: {text}");
        }
        assert!(
            imports_of("mirror-agent/src/flow/a.rs", "use super::plan::Decision;").is_empty(),
            "a child of flow"
        );
    }

    #[test]
    fn nobody_but_main_imports_app() {
        assert_eq!(
            imports_of("mirror-agent/src/cli/run.rs", "use crate::app;"),
            ["mirror-agent/src/cli/run.rs:1: nobody imports `app`"]
        );
        assert!(imports_of("mirror-agent/src/main.rs", "use mirror_agent::app;").is_empty());
    }

    #[test]
    fn the_kernel_room_imports_no_room() {
        assert_eq!(imports_of("mirror-agent/src/kernel/ring.rs", "use crate::packet::Seq;").len(), 1);
    }

    #[test]
    fn a_data_room_imports_neither_control_nor_kernel() {
        for room in ["control", "api", "config", "cli", "kernel"] {
            let text = format!("use crate::{room}::Thing;");
            assert_eq!(imports_of("mirror-agent/src/replay.rs", &text).len(), 1, "{room}");
        }
    }

    #[test]
    fn aya_outside_the_kernel_room_is_found() {
        assert_eq!(imports_of("mirror-agent/src/app.rs", "use aya::Ebpf;").len(), 1);
        assert!(imports_of("mirror-agent/src/kernel/load.rs", "use aya::Ebpf;").is_empty());
    }

    #[test]
    fn a_room_without_a_place_in_the_table_is_found() {
        assert_eq!(imports_of("mirror-agent/src/shed.rs", "").len(), 1);
        assert_eq!(imports_of("mirror-agent/src/flow.rs", "use crate::shed::Bike;").len(), 1);
    }

    #[test]
    fn tests_may_import_what_they_like() {
        assert!(
            imports_of("mirror-agent/src/flow.rs", "#[cfg(test)] mod tests { use crate::plan::X; }")
                .is_empty()
        );
        assert!(imports_of("mirror-agent/src/flow/tests.rs", "use crate::plan::X;").is_empty());
    }

    #[test]
    fn a_clock_a_runtime_and_a_socket_in_a_pure_room_are_found() {
        for text in [
            "use std::time::Instant;",
            "fn a() { std::time::SystemTime::now(); }",
            "use tokio::sync::mpsc;",
            "use mio::net;",
            "use std::net::{IpAddr, TcpStream};",
            "use std::{fs, net::IpAddr};",
            "fn a() { std::thread::sleep(d) }",
        ] {
            assert_eq!(impurities_of("mirror-agent/src/http/h1.rs", text).len(), 1, "{text}");
            assert!(impurities_of("mirror-agent/src/replay.rs", text).is_empty(), "{text}");
        }
        assert!(
            impurities_of("mirror-agent/src/http/h1.rs", "use std::net::IpAddr; use std::time::Duration;")
                .is_empty()
        );
    }

    #[test]
    fn a_hash_map_may_be_asked_but_not_walked() {
        let ask = "struct T { flows: std::collections::HashMap<K, V> } fn a(t: &T) { t.flows.get(&k); }";
        assert!(impurities_of("mirror-agent/src/flow.rs", ask).is_empty());
        for walk in [
            "struct T { flows: HashMap<K, V> } fn a(t: &T) { t.flows.values().count(); }",
            "fn a() { let mut seen = HashSet::new(); for x in &seen { b(x); } }",
            "struct T { flows: std::collections::HashMap<K, V> } fn a(t: &mut T) { t.flows.drain(); }",
            "fn a(flows: &mut HashMap<K, V>) { flows.retain(|_, _| true); }",
        ] {
            assert_eq!(impurities_of("mirror-agent/src/flow.rs", walk).len(), 1, "{walk}");
        }
    }

    #[test]
    fn unsafe_outside_its_places_is_found_even_in_tests() {
        let planted = [
            ("mirror-agent/src/kernel/ring.rs", "fn a() { unsafe {} }"),
            ("mirror-agent/src/replay.rs", "#[cfg(test)] mod tests { fn a() { unsafe {} } }"),
            ("mirror-agent/src/kernels.rs", "#![allow(unsafe_code)]"),
            ("tests/src/kernel.rs", "fn a() { unsafe {} }"),
            ("xtask/src/main.rs", "// unsafe\nfn a() {}"),
        ];
        let found: Vec<_> =
            unsafe_has_an_address(&Tree::of(&planted)).into_iter().map(|finding| finding.file).collect();
        assert_eq!(found, ["mirror-agent/src/kernels.rs", "mirror-agent/src/replay.rs"]);
    }
}
