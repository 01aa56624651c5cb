//! Rules about the members' manifests.

use toml::{Table, Value};

use super::rules::Finding;
use super::tree::Tree;

const ROOT: &str = "Cargo.toml";
/// What every member takes from `[workspace.package]`.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];

/// The package of the fuzz targets, which is no member of the workspace and cannot inherit.
pub(super) const FUZZ: &str = "mirror-agent/fuzz/Cargo.toml";
/// What only that package needs.
const FUZZ_ONLY: &[&str] = &["libfuzzer-sys"];

/// Rule `fuzz`.
pub(super) fn fuzz_agrees(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(root) = parse(tree, ROOT, &mut findings) else { return findings };
    let Some(fuzz) = parse(tree, FUZZ, &mut findings) else { return findings };
    let workspace = root.get("workspace").and_then(Value::as_table);
    let of_workspace = |key: &str| workspace.and_then(|workspace| workspace.get(key));
    if fuzz.get("lints") != of_workspace("lints") {
        findings.push(Finding::of(FUZZ, "[lints] is not [workspace.lints] word for word"));
    }
    for key in INHERITED {
        let own = fuzz.get("package").and_then(|package| package.get(key));
        if own != of_workspace("package").and_then(|package| package.get(key)) {
            findings.push(Finding::of(FUZZ, format!("`{key}` is not that of the workspace")));
        }
    }
    for (section, dependencies) in dependency_tables(&fuzz) {
        for (name, dependency) in dependencies {
            let shared = of_workspace("dependencies").and_then(|shared| shared.get(name));
            let here = dependency.get("path").is_some() || FUZZ_ONLY.contains(&name.as_str());
            if !here && Some(dependency) != shared {
                findings
                    .push(Finding::of(FUZZ, format!("`{name}` in [{section}] is not that of the workspace")));
            }
        }
    }
    // What is fuzzed is what is shipped only if its crates are the same.
    let shipped = locked(tree, "Cargo.lock");
    for (name, version) in locked(tree, "mirror-agent/fuzz/Cargo.lock") {
        let known: Vec<_> =
            shipped.iter().filter(|(other, _)| *other == name).map(|(_, known)| known).collect();
        if !known.is_empty() && !known.contains(&&version) {
            let what = format!(
                "{name} {version} is not what Cargo.lock has: `cargo update --manifest-path {FUZZ} -p {name} --precise {}`",
                known[0]
            );
            findings.push(Finding::of("mirror-agent/fuzz/Cargo.lock", what));
        }
    }
    findings
}

/// Name and version of every package in a lock file.
fn locked(tree: &Tree, file: &str) -> Vec<(String, String)> {
    let lock = tree.text(file).and_then(|text| text.parse::<Table>().ok()).unwrap_or_default();
    let packages = lock.get("package").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |package: &Value, key: &str| package.get(key).and_then(Value::as_str).map(str::to_owned);
    packages.iter().filter_map(|package| Some((text(package, "name")?, text(package, "version")?))).collect()
}

/// Rule `inherit`.
pub(super) fn members_inherit(tree: &Tree) -> Vec<Finding> {
    each_member(tree, |file, manifest, findings| {
        if !is_workspace(manifest.get("lints")) {
            findings.push(Finding::of(
                file,
                "does not inherit the lints: `[lints]` with `workspace = true`, and nothing else",
            ));
        }
        let package = manifest.get("package");
        for key in INHERITED {
            if !is_workspace(package.and_then(|package| package.get(key))) {
                findings
                    .push(Finding::of(file, format!("does not inherit `{key}`: `{key}.workspace = true`")));
            }
        }
    })
}

/// Rule `versions`.
pub(super) fn versions_are_shared(tree: &Tree) -> Vec<Finding> {
    each_member(tree, |file, manifest, findings| {
        for (section, dependencies) in dependency_tables(manifest) {
            for (name, dependency) in dependencies {
                if dependency.get("workspace").and_then(Value::as_bool) != Some(true) {
                    let what = format!(
                        "`{name}` in [{section}] has a version of its own: `{name}.workspace = true`"
                    );
                    findings.push(Finding::of(file, what));
                }
            }
        }
    })
}

fn each_member(tree: &Tree, check: impl Fn(&str, &Table, &mut Vec<Finding>)) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(root) = parse(tree, ROOT, &mut findings) else { return findings };
    let members =
        root.get("workspace").and_then(|workspace| workspace.get("members")).and_then(Value::as_array);
    let Some(members) = members else {
        return vec![Finding::of(ROOT, "no list of members in [workspace]")];
    };
    for member in members.iter().filter_map(Value::as_str) {
        let file = format!("{member}/Cargo.toml");
        if let Some(manifest) = parse(tree, &file, &mut findings) {
            check(&file, &manifest, &mut findings);
        }
    }
    findings
}

fn parse(tree: &Tree, file: &str, findings: &mut Vec<Finding>) -> Option<Table> {
    let Some(text) = tree.text(file) else {
        findings.push(Finding::of(file, "is not there"));
        return None;
    };
    match text.parse::<Table>() {
        Ok(table) => Some(table),
        Err(error) => {
            findings.push(Finding::of(file, error.message().to_owned()));
            None
        }
    }
}

/// Exactly `workspace = true`.
fn is_workspace(value: Option<&Value>) -> bool {
    value.and_then(Value::as_table).is_some_and(|table| {
        table.len() == 1 && table.get("workspace").and_then(Value::as_bool) == Some(true)
    })
}

/// Every table of dependencies, those of `[target.*]` included.
fn dependency_tables(manifest: &Table) -> Vec<(String, &Table)> {
    const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let mut tables = Vec::new();
    for kind in KINDS {
        if let Some(table) = manifest.get(kind).and_then(Value::as_table) {
            tables.push((kind.to_owned(), table));
        }
    }
    let targets = manifest.get("target").and_then(Value::as_table);
    for (target, owner) in targets.into_iter().flatten() {
        for kind in KINDS {
            if let Some(table) = owner.get(kind).and_then(Value::as_table) {
                tables.push((format!("target.{target}.{kind}"), table));
            }
        }
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::{FUZZ, fuzz_agrees, members_inherit, versions_are_shared};
    use crate::lint::tree::Tree;

    const ROOT: &str = "[workspace]\nmembers = [\"a\"]\n";
    const GOOD: &str = "[package]\nname = \"a\"\nversion.workspace = true\nedition.workspace = true\n\
                        rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\
                        [dependencies]\nbytes.workspace = true\nclap = { workspace = true, features = [\"x\"] }\n\
                        [lints]\nworkspace = true\n";

    fn tree(member: &str) -> Tree {
        Tree::of(&[("Cargo.toml", ROOT), ("a/Cargo.toml", member)])
    }

    #[test]
    fn a_member_that_inherits_all_passes() {
        assert_eq!(members_inherit(&tree(GOOD)), []);
        assert_eq!(versions_are_shared(&tree(GOOD)), []);
    }

    #[test]
    fn a_member_without_the_shared_lints_is_found() {
        let bare = GOOD.replace("[lints]\nworkspace = true\n", "");
        assert_eq!(members_inherit(&tree(&bare)).len(), 1);
        let own = GOOD.replace("[lints]\nworkspace = true\n", "[lints.rust]\nunsafe_code = \"allow\"\n");
        assert_eq!(members_inherit(&tree(&own)).len(), 1);
    }

    #[test]
    fn an_edition_of_its_own_is_found() {
        let own = GOOD.replace("edition.workspace = true", "edition = \"2021\"");
        assert_eq!(members_inherit(&tree(&own)).len(), 1);
    }

    #[test]
    fn a_version_of_its_own_is_found_in_every_kind_of_table() {
        for table in
            ["dependencies", "dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"]
        {
            let own = format!("{}\n[{table}]\nlibc = \"0.2\"\n", GOOD.replace("[dependencies]", "[other]"));
            assert_eq!(versions_are_shared(&tree(&own)).len(), 1, "{table}");
        }
    }

    #[test]
    fn a_listed_member_without_a_manifest_is_found() {
        assert_eq!(members_inherit(&Tree::of(&[("Cargo.toml", ROOT)])).len(), 1);
    }

    #[test]
    fn a_fuzz_package_that_differs_from_the_workspace_is_found() {
        let root = "[workspace]\nmembers = []\n[workspace.package]\nversion = \"1\"\nedition = \"2024\"\n\
                    [workspace.lints.rust]\nunsafe_code = \"deny\"\n[workspace.dependencies]\nslab = \"0.4\"\n";
        let good = "[package]\nversion = \"1\"\nedition = \"2024\"\n[dependencies]\nslab = \"0.4\"\n\
                    libfuzzer-sys = \"=0.4.13\"\nmirror-common = { path = \"x\" }\n[lints.rust]\nunsafe_code = \"deny\"\n";
        let lock = |version: &str| format!("[[package]]\nname = \"slab\"\nversion = \"{version}\"\n");
        let found = |fuzz: &str, own: &str| {
            let (shipped, own) = (lock("0.4.12"), lock(own));
            let files = [
                ("Cargo.toml", root),
                (FUZZ, fuzz),
                ("Cargo.lock", shipped.as_str()),
                ("mirror-agent/fuzz/Cargo.lock", own.as_str()),
            ];
            fuzz_agrees(&Tree::of(&files)).len()
        };
        assert_eq!(found(good, "0.4.12"), 0);
        assert_eq!(found(good, "0.4.11"), 1);
        assert_eq!(found(&good.replace("deny", "allow"), "0.4.12"), 1);
        assert_eq!(found(&good.replace("\"0.4\"", "\"0.3\""), "0.4.12"), 1);
        assert_eq!(found(&good.replace("2024", "2021"), "0.4.12"), 1);
    }
}
