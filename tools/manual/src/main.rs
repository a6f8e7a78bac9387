// SPDX-License-Identifier: GPL-2.0

//! `bowctl-manual DIR`: writes the manual pages and the shell completions of `bowctl` to a folder.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: bowctl-manual DIR");
        return ExitCode::from(2);
    };
    let write = || -> io::Result<()> {
        fs::create_dir_all(&folder)?;
        for (name, data) in bowctl_manual::files()? {
            fs::write(folder.join(name), data)?;
        }
        Ok(())
    };

    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bowctl-manual: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
