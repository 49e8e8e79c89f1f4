//! What Linux says of a process.

use std::fs;

use crate::Failure;

/// User and system time of a process so far; Linux counts both in hundredths of a second.
pub(crate) fn cpu_seconds(process: u32) -> Result<f64, Failure> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit_once(')').ok_or("unreadable stat")?.1;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

/// User and system time of all processes of this name that this one has started and that still run.
pub(crate) fn cpu_seconds_of_children(name: &str) -> Result<f64, Failure> {
    let mut seconds = 0.0;
    for entry in fs::read_dir("/proc")? {
        let id = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        // Others may end meanwhile.
        let Some((id, stat)) = id.and_then(|id| Some((id, fs::read_to_string(format!("/proc/{id}/stat")).ok()?)))
        else {
            continue;
        };
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse().ok());
        if parent == Some(std::process::id()) && stat.contains(&format!("({name})")) {
            seconds += cpu_seconds(id)?;
        }
    }
    Ok(seconds)
}

/// Resident memory of a process in MiB, without what is there of files: what it has now, and the most it had. Of the
/// program's own file the kernel maps as much as it likes, up to all of it, and takes it back when others need room.
pub(crate) fn resident(process: u32) -> Result<(f64, f64), Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| -> Result<f64, Failure> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("unreadable status")?;
        let kibibytes = line.split_ascii_whitespace().next().ok_or("unreadable status")?;
        Ok(kibibytes.parse::<f64>()? / 1024.0)
    };
    let file = field("RssFile:")?;
    Ok((field("VmRSS:")? - file, (field("VmHWM:")? - file).max(0.0)))
}
