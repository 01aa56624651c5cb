//! The inputs that fuzzing begins with, made by the tests' own builders and committed in `fuzz/seeds`. A test holds the files to
//! their builders; `cargo xtask fuzz --seeds` has it write them instead. Other files may stand beside them: inputs that once
//! failed.

use std::path::Path;

/// Holds the seeds of a target to what their builders make.
pub(crate) fn hold(target: &str, seeds: &[(&str, Vec<u8>)]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join("seeds").join(target);
    for (name, bytes) in seeds {
        let file = dir.join(name);
        if std::env::var_os("MIRROR_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&file, bytes).unwrap();
        }
        let committed = std::fs::read(&file).unwrap_or_default();
        let stale = "is not what its builder makes: `cargo xtask fuzz --seeds` writes it";
        assert!(committed == *bytes, "{} {stale}", file.display());
    }
}
