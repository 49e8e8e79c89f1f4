//! The demo as somebody tries it who does not know hooksink: it stays until Ctrl-C, and what it proposes works.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::server::eventually;
use crate::support::shell::run_in;

#[test]
fn the_demo_stays_until_ctrl_c_and_its_proposals_work() {
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut demo = Command::new(env!("CARGO_BIN_EXE_hooksink"))
        .arg("demo")
        .current_dir(folder.path())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let said = eventually("it says what to try next", || {
        let said = fs::read_to_string(&out).unwrap();
        assert!(demo.try_wait().unwrap().is_none(), "it ended:\n{said}{}", fs::read_to_string(&err).unwrap());
        said.contains("Ctrl-C ends it").then_some(said)
    });
    let (_, next) = said.split_once("What to try next").unwrap();
    let binary = env!("CARGO_BIN_EXE_hooksink");
    let commands: Vec<_> = next.lines().filter_map(|line| line.trim().strip_prefix(binary)).collect();
    assert!(commands.len() >= 7, "{next}");
    for command in commands {
        // One of them shows what becomes of a forged request.
        let status = if command.contains("--secret wrong") { 69 } else { 0 };
        run_in(folder.path(), command.split("  ").next().unwrap(), &[]).status(status);
    }
    let id = i32::try_from(demo.id()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(id, Signal::INT).unwrap();
    let status = eventually("it ends", || demo.try_wait().unwrap());
    let said = fs::read_to_string(&err).unwrap();
    assert!(status.success() && !said.contains("panicked"), "{status}: {said}");
}
