//! An operator's own drivers, as they lie on disk. What is in them is not looked at here.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Largest file that is read.
const LARGEST: u64 = 1 << 20;
/// Most files of one folder.
const MOST: usize = 1000;

/// Files by their path below a folder.
pub type Files = Vec<(String, Vec<u8>)>;

/// The files of one driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    pub name: String,
    pub files: Files,
}

/// What cannot be read, and why.
pub type Fault = (PathBuf, String);

/// The folder of what drivers include, which is none itself.
const SHARED: &str = "common";

/// Every driver's folder below `path`, by name.
pub fn read_all(path: &Path) -> Result<Vec<Folder>, Fault> {
    let mut folders = Vec::new();
    for path in sorted(path)? {
        let name = name(&path);
        let shared = name == SHARED && !path.join("driver.yaml").exists();
        if path.is_dir() && !name.starts_with('.') && !shared {
            folders.push(read(&path)?);
        }
    }
    Ok(folders)
}

/// The files of the directory `path` below `root`, which a driver there includes; None where there
/// is no such directory. `path` has no `..`; nothing on its way is a symbolic link.
pub fn included(root: &Path, path: &str) -> Result<Option<Files>, String> {
    let mut way = root.to_owned();
    for part in path.split('/') {
        way.push(part);
        match fs::symlink_metadata(&way) {
            Ok(found) if found.is_dir() => {}
            Ok(found) if found.is_symlink() => {
                return Err(format!("{} is a symbolic link; put the files there", way.display()));
            }
            Ok(_) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("{}: {e}", way.display())),
        }
    }
    let folder = read(&way).map_err(|(path, reason)| format!("{}: {reason}", path.display()))?;
    Ok(Some(folder.files))
}

/// One folder.
pub fn read(path: &Path) -> Result<Folder, Fault> {
    let mut files = Vec::new();
    walk(path, "", &mut files)?;
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    Ok(Folder { name: name(&whole), files })
}

fn walk(folder: &Path, prefix: &str, files: &mut Files) -> Result<(), Fault> {
    for path in sorted(folder)? {
        let fault = |reason: &str| Err((path.clone(), reason.to_owned()));
        let found = fs::symlink_metadata(&path).map_err(|e| (path.clone(), e.to_string()))?;
        let below = format!("{prefix}{}", name(&path));
        if found.is_dir() {
            walk(&path, &format!("{below}/"), files)?;
        } else if found.is_symlink() {
            return fault("a driver's directory has no symbolic links; put the file itself there");
        } else if found.len() > LARGEST {
            return fault("a file of a driver has at most 1 MiB");
        } else if files.len() == MOST {
            return fault("a driver has at most 1000 files");
        } else {
            files.push((below, fs::read(&path).map_err(|e| (path.clone(), e.to_string()))?));
        }
    }
    Ok(())
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let fault = |e: std::io::Error| (folder.to_owned(), e.to_string());
    let entries = fs::read_dir(folder).map_err(fault)?;
    let mut paths: Vec<PathBuf> =
        entries.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>().map_err(fault)?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_with_their_paths_and_links_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let driver = root.path().join("mine");
        fs::create_dir_all(driver.join("bundle")).unwrap();
        fs::create_dir(root.path().join(".git")).unwrap();
        fs::write(driver.join("driver.yaml"), "a").unwrap();
        fs::write(driver.join("bundle/x.tera"), "b").unwrap();
        let all = read_all(root.path()).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].name, "mine");
        let paths: Vec<&str> = all[0].files.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["bundle/x.tera", "driver.yaml"]);
        std::os::unix::fs::symlink("/etc/passwd", driver.join("link")).unwrap();
        assert!(read_all(root.path()).unwrap_err().1.contains("symbolic links"));
        assert!(read_all(&root.path().join("none")).is_err());
    }

    #[test]
    fn what_drivers_include_is_no_driver_and_lies_below_their_folder() {
        let root = tempfile::tempdir().unwrap();
        let node = root.path().join("common/node");
        fs::create_dir_all(&node).unwrap();
        fs::write(node.join("lib.sh"), "a").unwrap();
        fs::write(root.path().join("file"), "b").unwrap();
        assert_eq!(read_all(root.path()).unwrap(), []);
        let files = included(root.path(), "common/node").unwrap().unwrap();
        assert_eq!(files, [("lib.sh".to_owned(), b"a".to_vec())]);
        for missing in ["common/nod", "file", "common/node/lib.sh"] {
            assert_eq!(included(root.path(), missing).unwrap(), None, "{missing}");
        }
        std::os::unix::fs::symlink("/etc", root.path().join("link")).unwrap();
        for link in ["link", "link/ssl"] {
            assert!(included(root.path(), link).unwrap_err().contains("link is a symbolic link"));
        }
        fs::remove_file(root.path().join("link")).unwrap();
        fs::write(root.path().join("common/driver.yaml"), "").unwrap();
        assert_eq!(read_all(root.path()).unwrap().len(), 1);
    }
}
