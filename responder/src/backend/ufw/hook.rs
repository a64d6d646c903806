//! Our lines in ufw's `before.init`.
//!
//! ufw runs that file only if it is executable, which it is not as Debian ships it: we make it so, note the mode it
//! had, and give it back when we go.

use super::block;
use crate::backend::{BackendError, replace};
use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

const BEFORE_INIT: &str = "etc/ufw/before.init";
const CONFIGURATION: &str = "etc/ufw/ufw.conf";
/// What begins a file that was not there.
const SHEBANG: &str = "#!/bin/sh\n";
/// Stands in place of the mode where the file is ours alone.
const NEW: &str = "new file";
/// ufw waits for its hook, and boot for ufw.
const HOOK_SECONDS: u32 = 30;

/// The hook, and what the file was like when it was last looked at.
#[derive(Debug)]
pub(super) struct Hook {
    root: PathBuf,
    responder: Option<PathBuf>,
    state_dir: PathBuf,
    seen: Option<Seen>,
}

/// What tells one writing of a file from another.
type Seen = [Option<(u64, i64, i64, u32)>; 2];

impl Hook {
    pub(super) fn new(state_dir: &Path) -> Self {
        let responder = std::env::current_exe().ok();
        Self { root: "/".into(), responder, state_dir: state_dir.to_owned(), seen: None }
    }

    pub(super) fn at_root(mut self, root: &Path) -> Self {
        root.clone_into(&mut self.root);
        self
    }

    pub(super) fn with_responder(mut self, program: &Path) -> Self {
        self.responder = Some(program.to_owned());
        self
    }

    /// Errors: there is no ufw here.
    pub(super) fn ufw_is_enabled(&self) -> Result<bool, BackendError> {
        let path = self.root.join(CONFIGURATION);
        match fs::read(&path) {
            Ok(text) => Ok(enabled(&String::from_utf8_lossy(&text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(BackendError::ProgramMissing { program: "ufw", package: "ufw" })
            }
            Err(source) => Err(BackendError::File { path, source }),
        }
    }

    /// Makes sure that the hook is there; tells in words if it was not.
    pub(super) fn ensure(&mut self) -> Result<Option<String>, BackendError> {
        let path = self.path();
        let (text, mode) = self.read()?;
        let wrong = |why| BackendError::NotOurs { path: path.clone(), why };
        let note = match (block::note(text.as_deref().unwrap_or_default()).map_err(wrong)?, mode) {
            (Some(note), _) => note.to_owned(),
            (None, Some(mode)) => format!("mode {mode:o}"),
            (None, None) => NEW.to_owned(),
        };
        let before = text.as_deref().unwrap_or(SHEBANG);
        let after = block::put(before, &note, &self.body(), |line| !line.starts_with('#')).map_err(wrong)?;
        let executable = mode.unwrap_or(0o640) | 0o100;
        let repaired = (text.as_deref() != Some(&after) || mode != Some(executable)).then(|| {
            replace::file(&path, after.as_bytes(), executable)
                .map(|()| format!("our lines in {} were missing or altered", path.display()))
                .map_err(|source| BackendError::File { path: path.clone(), source })
        });
        let repaired = repaired.transpose();
        self.seen = Some(self.look());
        repaired
    }

    /// Takes our lines out, and leaves the file as it was before them.
    pub(super) fn remove(&mut self) -> Result<(), BackendError> {
        let path = self.path();
        let (Some(text), Some(mode)) = self.read()? else { return Ok(()) };
        let wrong = |why| BackendError::NotOurs { path: path.clone(), why };
        let Some(note) = block::note(&text).map_err(wrong)? else { return Ok(()) };
        let Some(rest) = block::take(&text).map_err(wrong)? else { return Ok(()) };
        let done = if note == NEW && rest == SHEBANG {
            fs::remove_file(&path)
        } else {
            let before = note.strip_prefix("mode ").and_then(|octal| u32::from_str_radix(octal, 8).ok());
            replace::file(&path, rest.as_bytes(), before.unwrap_or(mode) & 0o777)
        };
        self.seen = None;
        done.map_err(|source| BackendError::File { path, source })
    }

    /// Whether `before.init` or ufw's configuration was written since [`Self::ensure`].
    pub(super) fn changed(&self) -> bool {
        self.seen.is_some_and(|seen| seen != self.look())
    }

    fn path(&self) -> PathBuf {
        self.root.join(BEFORE_INIT)
    }

    fn look(&self) -> Seen {
        [BEFORE_INIT, CONFIGURATION].map(|file| {
            let found = fs::metadata(self.root.join(file)).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec(), found.mode()))
        })
    }

    /// The text and the permissions of the file, if it is there.
    fn read(&self) -> Result<(Option<String>, Option<u32>), BackendError> {
        let path = self.path();
        let at = |source| BackendError::File { path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(text) => {
                let mode = fs::metadata(&path).map_err(at)?.permissions().mode() & 0o7777;
                Ok((Some(text), Some(mode)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((None, None)),
            Err(error) => Err(at(error)),
        }
    }

    /// What ufw runs. A responder that is gone, or fails, or hangs keeps nothing of ufw's from loading.
    fn body(&self) -> String {
        let responder = self.responder.as_deref().unwrap_or(Path::new("netguard-responder"));
        let (responder, state_dir) = (quoted(responder), quoted(&self.state_dir));
        format!(
            "# Written by netguard-responder; `netguard-responder flush` takes it out again.\n\
             if [ \"$1\" = start ] && [ -x {responder} ]; then\n    \
             timeout {HOOK_SECONDS} {responder} restore --backend ufw --data-dir {state_dir} || true\n\
             fi\n"
        )
    }
}

/// As one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// As ufw reads its configuration, a file of shell assignments: the last one counts.
fn enabled(text: &str) -> bool {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("ENABLED="))
        .next_back()
        .is_some_and(|value| matches!(value.trim().trim_matches(['"', '\'']), "yes" | "YES"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(root: &Path) -> Hook {
        fs::create_dir_all(root.join("etc/ufw")).unwrap();
        Hook::new(Path::new("/var/lib/it's here")).at_root(root).with_responder(Path::new("/usr/bin/ng"))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_operators_file_comes_back_byte_for_byte_and_bit_for_bit() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(BEFORE_INIT);
        let mut hook = hook(root.path());
        for (text, permissions) in
            [(None, 0o640), (Some("#!/bin/sh\nset -e\nexit 0"), 0o640), (Some("#!/bin/sh\nx\n"), 0o755)]
        {
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(permissions)).unwrap();
            }
            assert!(hook.ensure().unwrap().is_some());
            assert_eq!((hook.ensure().unwrap(), hook.changed()), (None, false));
            assert_eq!(mode(&path), permissions | 0o100);
            let script = fs::read_to_string(&path).unwrap();
            assert!(
                script.contains(r"restore --backend ufw --data-dir '/var/lib/it'\''s here' || true"),
                "{script}"
            );
            // What the operator writes meanwhile stays, also without our lines.
            fs::write(&path, format!("{script}\n# mine\n")).unwrap();
            assert!(hook.changed());
            assert_eq!(hook.ensure().unwrap(), None);
            hook.remove().unwrap();
            let rest = fs::read_to_string(&path).unwrap();
            assert_eq!(rest, format!("{}\n# mine\n", text.unwrap_or(SHEBANG)));
            if text.is_some() {
                assert_eq!(mode(&path), permissions);
            }
            fs::remove_file(&path).unwrap();
            hook.ensure().unwrap();
            hook.remove().unwrap();
            hook.remove().unwrap();
            assert!(!path.exists());
        }
    }

    #[test]
    fn marks_that_do_not_pair_are_told_and_left() {
        let root = tempfile::tempdir().unwrap();
        let mut hook = hook(root.path());
        let broken = "#!/bin/sh\n# BEGIN netguard mode 640\n";
        fs::write(root.path().join(BEFORE_INIT), broken).unwrap();
        let error = hook.ensure().unwrap_err().to_string();
        assert!(error.contains("before.init") && error.contains("by hand"), "{error}");
        assert!(hook.remove().is_err());
        assert_eq!(fs::read_to_string(root.path().join(BEFORE_INIT)).unwrap(), broken);
    }

    #[test]
    fn ufws_configuration_is_read_as_ufw_reads_it() {
        assert!(enabled("# comment\nENABLED=yes\nLOGLEVEL=low\n") && enabled("ENABLED=\"yes\""));
        assert!(
            !enabled("ENABLED=no\n")
                && !enabled("")
                && !enabled("#ENABLED=yes")
                && !enabled("ENABLED=yes\nENABLED=no")
        );
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(
            hook(root.path()).ufw_is_enabled(),
            Err(BackendError::ProgramMissing { program: "ufw", .. })
        ));
    }
}
