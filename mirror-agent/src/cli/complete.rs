//! `mirror completions`.

use std::io::{self, Write};

use clap_complete::Shell;

/// Writes the completion script of a shell.
///
/// # Errors
///
/// Those of `out`.
pub fn completions(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    // The generator panics if its writer fails, as it does on a closed pipe: hand it memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::definition(), "mirror", &mut script);
    out.write_all(&script)
}
