//! What servers fetch whose user data is older than first contact by key: how to make it.
//!
//! Heat lets no update change a server's user data, and Nova's rebuild keeps it, so there are
//! such servers as long as clusters live that were made before. There is no secret in it.

use crate::base::archive::File;

/// The functions by which a node makes its first contact and asks for everything else: those of the
/// drivers that come with magnumd, which therefore need nothing that older libraries lack.
pub const CLAIM: &str = include_str!("../../templates/common/node/claim.sh");
const FIRST: &str = include_str!("kit/first.sh");
const AGAIN: &str = include_str!("kit/again.sh");
/// What a node's library begins a line with that has them.
const MARK: &str = "\nclaim() {\n";

/// The duty of a node that asks for one and is not ready on record, as after a restore: to report
/// again if it has been ready.
pub fn ask_again() -> Vec<File> {
    vec![("duty.sh".to_owned(), 0o755, AGAIN.as_bytes().to_vec())]
}

/// In the place of a bundle, or of a duty's files.
pub fn kit() -> Vec<File> {
    let file = |path: &str, mode, text: &str| (path.to_owned(), mode, text.as_bytes().to_vec());
    vec![
        file("claim.sh", 0o644, CLAIM),
        file("duty.sh", 0o755, FIRST),
        file("setup.sh", 0o755, FIRST),
    ]
}

/// Gives the library among `files` these functions, if the driver is of a time without: a
/// cluster keeps the files that it was made with.
pub fn complete(files: &mut [File]) {
    for (_, _, content) in files.iter_mut().filter(|(path, ..)| path == "lib.sh") {
        if !content.windows(MARK.len()).any(|part| part == MARK.as_bytes()) {
            content.extend_from_slice(CLAIM.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_of_before_is_completed_once() {
        let before = ("lib.sh".to_owned(), 0o644, b"call() { :; }\n".to_vec());
        let other = ("steps.sh".to_owned(), 0o644, b"x\n".to_vec());
        let mut files = vec![before, other.clone()];
        complete(&mut files);
        let completed = files.clone();
        assert!(completed[0].2.ends_with(CLAIM.as_bytes()) && completed[1] == other);
        complete(&mut files);
        assert_eq!(files, completed);
        assert!(CLAIM.starts_with('\n') && CLAIM.ends_with('\n'));
    }
}
