//! Old kernels: Debian's packaged 6.1 and 6.12 boot in qemu, and the lab's own scenarios run inside.
//!
//! The guest is an initramfs made here: busybox, `ip`, `tc`, the mirror, the lab's programs and their libraries. The
//! kernel package is downloaded by apt and unpacked below `target/`, never installed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario ends by a panic")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mirror_tests::mirror::binary;
use mirror_tests::netns::run_checked;
use mirror_tests::{Process, kernel, server};
use serde_json::Value;

/// Emulated, on a busy machine.
const GUEST_PATIENCE: Duration = Duration::from_secs(420);
/// In load order.
const MODULES: [&str; 4] = ["veth", "sch_ingress", "cls_bpf", "tun"];

/// Scenarios that hold on every kernel: test program and test names.
const EVERYWHERE: [(&str, &[&str]); 4] = [
    // The guest itself works.
    ("lab", &["an_l3_link_carries_requests_without_ethernet_headers"]),
    (
        "capture",
        &[
            "by_default_host_marker_and_trace_flag_are_all_that_changes",
            "with_the_three_changes_off_every_shape_of_request_arrives_byte_for_byte",
            "the_host_side_of_the_pods_veth_sees_everything",
            "the_pods_own_interface_is_found_by_the_namespaces_name",
            "lo_is_found_from_the_address_and_sees_each_segment_once",
            "ipv6_is_copied_at_the_host_side_and_over_lo",
            "connections_that_were_open_before_the_mirror_are_copied_from_their_next_request",
            "pipelined_requests_are_copied_in_order",
        ],
    ),
    ("attach", &["a_segment_seen_at_two_taps_is_one_request"]),
    ("harm", &["cleanup_removes_what_a_killed_agent_left_and_nothing_else"]),
];

/// Scenarios that need TCX (6.6 and newer).
const WITH_TCX: [(&str, &[&str]); 2] = [
    (
        "attach",
        &[
            "both_ways_of_attaching_see_the_same",
            "a_tag_that_the_kernel_holds_beside_the_bytes_is_no_obstacle",
            "two_tags_one_of_them_in_the_bytes_are_no_obstacle",
            "a_tun_device_without_ethernet_headers_is_tapped",
        ],
    ),
    ("harm", &["sigkill_under_load_fails_no_request_and_tcx_leaves_nothing"]),
];

#[test]
fn debians_6_1_mirrors_by_clsact() {
    boot("linux-image-6.1.0-", &EVERYWHERE);
}

#[test]
fn debians_6_12_mirrors_by_tcx() {
    boot("linux-image-6.12.", &[&EVERYWHERE[..], &WITH_TCX[..]].concat());
}

/// Boots the newest kernel package of this name and runs the scenarios in it; every one must pass.
#[track_caller]
fn boot(prefix: &str, scenarios: &[(&str, &[&str])]) {
    // One guest at a time: emulated on a starved machine, even a heartbeat comes late.
    static ONE: Mutex<()> = Mutex::new(());
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (image, modules) = kernel_of(prefix);
    let home = target().join(format!("guest-{}{}", prefix.trim_end_matches(['.', '-']), std::process::id()));
    let initramfs = build_guest(&home, &modules, scenarios);
    let mut qemu = Command::new("qemu-system-x86_64");
    kernel::enter_on_exec(&mut qemu, None, None);
    qemu.args([
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "1536",
        "-nodefaults",
        "-nographic",
    ]);
    qemu.args(["-no-reboot", "-serial", "stdio"]).arg("-kernel").arg(&image).arg("-initrd").arg(&initramfs);
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
    let (_, said, complaints) = Process::spawn("qemu", qemu).unwrap().finish(GUEST_PATIENCE).unwrap();
    std::fs::remove_dir_all(&home).unwrap();
    let results: Vec<&str> = said.iter().filter_map(|line| line.trim().strip_prefix("LAB ")).collect();
    let mut missing = vec!["doctor"];
    missing.extend(scenarios.iter().flat_map(|(_, tests)| tests.iter().copied()));
    missing.retain(|name| !results.contains(&format!("{name} 0").as_str()));
    assert!(
        missing.is_empty() && results.contains(&"end"),
        "failed or never ran in {}: {missing:?}\n{}\n{}",
        image.display(),
        said.join("\n"),
        complaints.join("\n")
    );
}

fn target() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"))
}

/// The kernel image and the folder of modules of the newest cloud kernel whose package name begins with `prefix`.
fn kernel_of(prefix: &str) -> (PathBuf, PathBuf) {
    // What is there, is taken: no network is needed then.
    let kept = files(&target().join("kernels"));
    let kept = kept
        .iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
    if let Some(found) = kept.filter_map(|home| unpacked(home)).next_back() {
        return found;
    }
    let names = run_checked(Command::new("apt-cache").args(["pkgnames", prefix])).unwrap();
    let mut names: Vec<&str> = names.lines().filter(|name| name.ends_with("-cloud-amd64")).collect();
    names.sort_by_key(|name| {
        name.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok()).collect::<Vec<_>>()
    });
    for name in names.iter().rev().take(5) {
        let home = target().join("kernels").join(name);
        if let Some(found) = unpacked(&home) {
            return found;
        }
        std::fs::create_dir_all(&home).unwrap();
        let mut download = Command::new("apt-get");
        download.args(["download", "-o", "APT::Sandbox::User=root", name]).current_dir(&home);
        if run_checked(&mut download).is_err() {
            // Known by name, but no longer in the archive.
            continue;
        }
        let package =
            files(&home).into_iter().find(|path| path.extension().is_some_and(|end| end == "deb")).unwrap();
        run_checked(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&home)).unwrap();
        std::fs::remove_file(package).unwrap();
        if let Some(found) = unpacked(&home) {
            return found;
        }
    }
    panic!(
        "apt has no kernel {prefix}*-cloud-amd64 to offer ({names:?}): apt-get update, or a Debian 12 with security updates"
    );
}

fn unpacked(home: &Path) -> Option<(PathBuf, PathBuf)> {
    let image =
        files(&home.join("boot")).into_iter().find(|path| path.to_string_lossy().contains("vmlinuz"))?;
    let modules = files(&home.join("lib/modules")).into_iter().next()?;
    Some((image, modules))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .map(|list| list.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

/// Lays out the guest's files below `home` and packs them; the path of the initramfs.
fn build_guest(home: &Path, modules: &Path, scenarios: &[(&str, &[&str])]) -> PathBuf {
    let root = home.join("root");
    for folder in ["bin", "dev", "proc", "sys", "run", "tmp", "var", "lab", "modules", "etc"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::os::unix::fs::symlink("/run", root.join("var/run")).unwrap();
    install(&root, Path::new("/usr/bin/busybox"), "bin/busybox");
    for program in ["ip", "tc"] {
        let path = run_checked(Command::new("sh").args(["-c", &format!("command -v {program}")])).unwrap();
        install(&root, Path::new(path.trim()), &format!("bin/{program}"));
    }
    install(&root, &binary(), "lab/mirror");
    install(&root, &server::program("reviews").unwrap(), "lab/reviews");
    let built = test_programs();
    for name in scenarios.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>() {
        let (_, path) = built.iter().find(|(built, _)| built == name).unwrap();
        install(&root, path, &format!("lab/{name}"));
    }
    for (place, name) in MODULES.iter().enumerate() {
        let found =
            run_checked(Command::new("find").arg(modules).args(["-name", &format!("{name}.ko*")])).unwrap();
        let from = PathBuf::from(found.trim());
        let to = root.join(format!("modules/{place}-{name}.ko"));
        if from.extension().is_some_and(|end| end == "xz") {
            let packed = root.join(format!("modules/{place}-{name}.ko.xz"));
            std::fs::copy(&from, &packed).unwrap();
            run_checked(Command::new("xz").arg("-d").arg(&packed)).unwrap();
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
    let init = root.join("init");
    std::fs::write(&init, init_script(scenarios)).unwrap();
    std::fs::set_permissions(&init, PermissionsExt::from_mode(0o755)).unwrap();
    let packed = home.join("initramfs.cpio");
    let pack =
        format!("cd '{}' && find . | cpio --quiet -o -H newc > '{}'", root.display(), packed.display());
    run_checked(Command::new("sh").args(["-c", &pack])).unwrap();
    packed
}

/// Copies a program without its debug information, and the libraries it needs.
fn install(root: &Path, program: &Path, to: &str) {
    let to = root.join(to);
    std::fs::copy(program, &to).unwrap();
    std::fs::set_permissions(&to, PermissionsExt::from_mode(0o755)).unwrap();
    run_checked(Command::new("strip").arg("--strip-debug").arg(&to)).unwrap();
    // A static program has none; ldd then fails.
    let needed = run_checked(Command::new("ldd").arg(program)).unwrap_or_default();
    for library in needed.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = root.join(library.trim_start_matches('/'));
        if !place.exists() {
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::copy(library, &place).unwrap();
        }
    }
}

/// Name and path of each test program of this package, as cargo built it.
fn test_programs() -> Vec<(String, PathBuf)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "test",
        "--no-run",
        "--quiet",
        "--message-format",
        "json",
        "--package",
        "mirror-tests",
        "--tests",
    ]);
    let said = run_checked(&mut command).unwrap();
    said.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| {
            let name = message.pointer("/target/name")?.as_str()?.to_owned();
            Some((name, PathBuf::from(message.get("executable")?.as_str()?)))
        })
        .collect()
}

fn init_script(scenarios: &[(&str, &[&str])]) -> String {
    let runs: String = scenarios
        .iter()
        .flat_map(|(program, tests)| {
            tests.iter().map(move |test| format!("run {test} /lab/{program} --exact {test} --nocapture\n"))
        })
        .collect();
    format!(
        "#!/bin/busybox sh
export PATH=/bin HOME=/ MIRROR_BIN=/lab/mirror RUST_BACKTRACE=0
/bin/busybox mkdir -p /usr/bin /usr/sbin /sbin
/bin/busybox --install -s /bin
# The real ip and tc are there already, and stay.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
for module in /modules/*.ko; do insmod $module || echo \"cannot load $module\"; done
mkdir -p /dev/net
[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
echo 1 > /proc/sys/kernel/panic_on_oops
ip link set lo up
echo \"kernel $(uname -r)\"
run() {{
  name=$1
  shift
  echo \"== $name\"
  timeout 120 \"$@\"
  echo \"LAB $name $?\"
}}
run doctor /lab/mirror doctor
{runs}echo 'LAB end'
poweroff -f
"
    )
}
