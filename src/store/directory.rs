//! The directory of a state: for its owner alone, whatever the umask is.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Makes the directory, and those above it that are missing, for us alone. One that is there keeps
/// its mode.
pub fn make(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A sentence with the cure, where others may write to a directory: they can put another state or
/// another key in place of ours.
pub fn exposure(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o022 != 0).then(|| {
        format!(
            "others may write to {path} (mode {mode:o}), and so replace the state and its key: \
             chmod 700 {path}",
            path = path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_is_for_its_owner_alone_and_an_open_one_is_told() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        make(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o700, 0o700));
        for (mode, is_told) in [(0o700, false), (0o755, false), (0o775, true), (0o702, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let told = exposure(&path);
            assert_eq!(told.is_some(), is_told, "{mode:o}: {told:?}");
            make(&path).unwrap();
        }
        let told = exposure(&path).unwrap();
        let words = format!(
            "(mode 702), and so replace the state and its key: chmod 700 {}",
            path.display()
        );
        assert!(told.ends_with(&words), "{told}");
        assert_eq!(mode(&path), 0o702, "it is the operator's to mend");
    }
}
