//! Suricata over the same packets, where it is installed: without rules, without output, one packet thread.

use super::image::Image;
use anyhow::{Context, bail};
use std::{
    env,
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where it is, if it is anywhere in `PATH`.
#[must_use]
pub fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join("suricata")).find(|path| path.is_file())
}

/// Million packets a second, as it says itself: from its engine's start to its stop, reading the file included.
///
/// Errors: it cannot be started, fails, or says neither how many packets it read nor how long it took.
pub fn run(program: &Path, image: &Image) -> anyhow::Result<f64> {
    let scratch = tempfile::tempdir()?;
    let (pcap, rules) = (scratch.path().join("mix.pcap"), scratch.path().join("none.rules"));
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&pcap)?);
    image.write_pcap(&mut out)?;
    out.flush()?;
    File::create(&rules)?;
    let output = Command::new(program)
        .args(["-v", "--runmode", "single", "-r"])
        .arg(&pcap)
        .arg("-l")
        .arg(scratch.path())
        .arg("-S")
        .arg(&rules)
        .args(["--set", "outputs.0.fast.enabled=no", "--set", "outputs.1.eve-log.enabled=no"])
        .args(["--set", "stats.enabled=no"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    if !output.status.success() {
        bail!("{} failed ({}): {}", program.display(), output.status, said.concat().trim());
    }
    let (packets, seconds) = read(&said.concat()).context("Suricata did not say how fast it was")?;
    Ok(packets / seconds / 1e6)
}

/// Packets, and seconds, from "time elapsed 1.215s" and "read 1 file, 50000 packets, 2700000 bytes".
fn read(said: &str) -> Option<(f64, f64)> {
    let after = |mark: &str| said.lines().find_map(|line| line.split_once(mark).map(|(_, rest)| rest));
    let seconds = after("time elapsed ")?.trim().strip_suffix('s')?.parse().ok()?;
    let packets = after(" file, ")?.split_whitespace().next()?.parse().ok()?;
    (seconds > 0.0).then_some((packets, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_words_are_understood() {
        let said = "Notice: threads: Threads created -> W: 1 FM: 1 FR: 1   Engine started.\n\
                    Info: suricata: time elapsed 1.215s\n\
                    Notice: pcap: read 1 file, 50000 packets, 2700000 bytes\n";
        assert_eq!(read(said), Some((50_000.0, 1.215)));
        assert_eq!(read("Info: suricata: time elapsed 0.000s\n"), None);
    }
}
