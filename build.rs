//! Embeds the samples: writes a list of every `fixtures/{sender}/*.json` for `src/cli/samples.rs`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=fixtures");
    println!("cargo::rerun-if-changed=build.rs");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let mut list = String::from("&[\n");
    for sender in ["meta", "webex-connect"] {
        for path in json_files(&root.join("fixtures").join(sender))? {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            writeln!(
                list,
                "    Sample {{ source_type: {sender:?}, name: {name:?}, body: include_bytes!({:?}) }},",
                path.display().to_string()
            )
            .map_err(io::Error::other)?;
        }
    }
    list.push_str("]\n");
    fs::write(out.join("samples.rs"), list)
}

/// The files in order of their names; none where there is no such folder.
fn json_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let paths: Vec<_> = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    let mut files: Vec<_> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    Ok(files)
}
