//! The programs that the tests and the demo drive, each with the Debian package it comes in.

use std::path::Path;

use crate::repo;

/// One thing that must be there.
struct Need {
    /// A program to find on PATH, or an absolute path to find.
    what: &'static str,
    package: &'static str,
}

const fn need(what: &'static str, package: &'static str) -> Need {
    Need { what, package }
}

const PROGRAMS: [Need; 17] = [
    need("nginx", "nginx-light"),
    need("/usr/lib/nginx/modules/ngx_http_echo_module.so", "libnginx-mod-http-echo"),
    need("wrk", "wrk"),
    need("ab", "apache2-utils"),
    need("nghttp", "nghttp2-client"),
    need("h2load", "nghttp2-client"),
    need("nghttpd", "nghttp2-server"),
    need("/usr/share/python-wheels", "python3-venv"),
    need("curl", "curl"),
    need("ip", "iproute2"),
    need("nft", "nftables"),
    need("ethtool", "ethtool"),
    need("openssl", "openssl"),
    need("bpftool", "bpftool"),
    need("tcpdump", "tcpdump"),
    need("sysctl", "procps"),
    need("cc", "gcc"),
];

const QEMU: [Need; 6] = [
    need("qemu-system-x86_64", "qemu-system-x86"),
    need("busybox", "busybox-static"),
    need("cpio", "cpio"),
    need("dpkg-deb", "dpkg"),
    need("strip", "binutils"),
    need("xz", "xz-utils"),
];

/// Packages of the test programs that were not found.
pub(super) fn missing_packages() -> Vec<&'static str> {
    missing(&PROGRAMS, &is_there)
}

/// The same for what boots other kernels.
pub(super) fn missing_for_qemu() -> Vec<&'static str> {
    missing(&QEMU, &is_there)
}

fn missing(needs: &[Need], is_there: &dyn Fn(&str) -> bool) -> Vec<&'static str> {
    needs.iter().filter(|need| !is_there(need.what)).map(|need| need.package).collect()
}

fn is_there(what: &str) -> bool {
    if what.starts_with('/') { Path::new(what).exists() } else { repo::which(what).is_some() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{PROGRAMS, QEMU, missing};
    use crate::lint::tree::Tree;

    /// What every Debian has (packages marked essential), and what the steps of setup need before all else.
    const EVERYWHERE: [&str; 13] = [
        "sh",
        "env",
        "nohup",
        "mount",
        "umount",
        "unshare",
        "setarch",
        "prlimit",
        "find",
        "ldd",
        "sha256sum",
        "apt-get",
        "apt-cache",
    ];

    #[test]
    fn every_program_that_the_tests_start_is_set_up() {
        let tree = Tree::of_repository().unwrap();
        let sources = tree.rust().filter(|(path, _)| path.starts_with("tests/"));
        let calls = sources.flat_map(|(_, text)| {
            ["Command::new(\"", ".command(\""].into_iter().flat_map(|begin| text.split(begin).skip(1))
        });
        let names: BTreeSet<&str> = calls.filter_map(|rest| Some(rest.split_once('"')?.0)).collect();
        assert!(names.contains("tcpdump"), "{names:?}");
        let known: BTreeSet<&str> =
            PROGRAMS.iter().chain(&QEMU).map(|need| need.what).chain(EVERYWHERE).collect();
        let unknown: Vec<_> = names.iter().filter(|name| !known.contains(*name)).collect();
        assert!(unknown.is_empty(), "no package is named for {unknown:?}");
    }

    #[test]
    fn what_is_not_found_is_asked_for_by_its_package() {
        assert_eq!(missing(&PROGRAMS, &|what| what != "ab"), ["apache2-utils"]);
    }

    #[test]
    fn with_everything_there_nothing_is_asked_for() {
        assert!(missing(&PROGRAMS, &|_| true).is_empty());
    }
}
