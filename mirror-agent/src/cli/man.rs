//! `mirror man`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap_mangen::Man;

/// Writes the manual pages: into `dir` one file for `mirror` and for each subcommand, else the page of `mirror` to
/// `out`. With a directory, `out` gets the paths of the files.
///
/// # Errors
///
/// Those of the files or of `out`, with the path that could not be written.
pub fn man(dir: Option<&Path>, out: &mut impl Write) -> io::Result<()> {
    let mut definition = super::definition().disable_help_subcommand(true);
    definition.build();
    let Some(dir) = dir else {
        return Man::new(definition).render(out);
    };
    let pages = std::iter::once(&definition).chain(definition.get_subcommands());
    for command in pages {
        // `mirror-run` for a subcommand: what `build` has put together.
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let path = dir.join(format!("{name}.1"));
        let mut page = Vec::new();
        Man::new(command.clone()).render(&mut page)?;
        fs::write(&path, page).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
        })?;
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}
