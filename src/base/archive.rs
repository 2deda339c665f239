//! A node's files as one tar archive: the same files give the same bytes.

use std::io;

use tar::{Builder, EntryType, Header};

/// One file: path, permission bits, content.
pub type File = (String, u32, Vec<u8>);

/// An archive in ustar format, owned by root. A path that is absolute, leaves the archive or
/// is too long for ustar is an error.
pub fn build(files: &[File], mtime: u64) -> io::Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = Header::new_ustar();
        header.set_path(path)?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(mode & 0o7777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("root")?;
        header.set_mtime(mtime);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_slice())?;
    }
    builder.into_inner()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn file(path: &str, mode: u32) -> File {
        (path.to_owned(), mode, path.as_bytes().to_vec())
    }

    #[test]
    fn an_archive_reads_back_and_is_the_same_each_time() {
        let files = [file("etc/kubernetes/pki/ca.key", 0o600), file("usr/local/bin/x", 0o755)];
        let bytes = build(&files, 1_700_000_000).unwrap();
        assert_eq!(bytes, build(&files, 1_700_000_000).unwrap());
        assert_eq!(bytes.len() % 512, 0);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            assert!(entry.header().as_ustar().is_some());
            seen.push((path, entry.header().mode().unwrap(), content));
        }
        assert_eq!(seen, files);
    }

    #[test]
    fn paths_stay_inside() {
        for bad in ["/etc/passwd", "../up", "a/../../b", "", &"x".repeat(300)] {
            assert!(build(&[file(bad, 0o644)], 0).is_err(), "{bad}");
        }
    }
}
