//! Has the state room to grow, and is it for our eyes only?

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::judgement::count;
use super::{Judgement, Look, Scene};

const MIB: u64 = 1 << 20;
/// A commit copies pages before it frees them; a thousand clusters take about this much.
const LITTLE: u64 = 1024 * MIB;
const TOO_LITTLE: u64 = 100 * MIB;

struct Facts {
    free: u64,
    files_left: u64,
    mode: u32,
}

pub async fn check(scene: &Scene) -> Look {
    let path = &scene.config.storage.path;
    // Before the first start it does not exist: what counts is where it will be.
    let place = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let shown = path.display().to_string();
    let blind = |e: std::io::Error| {
        Judgement::fail(
            format!("{shown} cannot be looked at: {e}"),
            "correct storage.path, or run this as the user that magnumd runs as",
        )
    };
    let room = rustix::fs::statvfs(place).map_err(|e| blind(e.into()))?;
    let mode = std::fs::metadata(place).map_err(blind)?.permissions().mode();
    let facts = Facts {
        free: room.f_bavail.saturating_mul(room.f_frsize),
        // Some file systems count none.
        files_left: if room.f_files == 0 { u64::MAX } else { room.f_favail },
        mode: if place == path.as_path() { mode & 0o777 } else { 0o700 },
    };
    Ok(judge(&shown, &facts))
}

fn judge(path: &str, facts: &Facts) -> Judgement {
    let free = facts.free / MIB;
    let cure = "make room there, or set storage.path to a larger disk";
    if facts.free < TOO_LITTLE {
        return Judgement::fail(format!("{path} has {free} MiB left"), cure);
    }
    if facts.files_left < 16 {
        let left = count(facts.files_left, "more file");
        return Judgement::fail(format!("{path} has room for {left}"), cure);
    }
    if facts.mode & 0o022 != 0 {
        return Judgement::warn(
            format!("others may write to {path} (mode {:o})", facts.mode),
            format!("chmod 700 {path}"),
        );
    }
    if facts.mode & 0o077 != 0 {
        return Judgement::warn(
            format!("{path} can be read by others (mode {:o})", facts.mode),
            format!("chmod 700 {path}"),
        );
    }
    match facts.free < LITTLE {
        true => Judgement::warn(format!("{path} has only {free} MiB left"), cure),
        false => Judgement::ok(format!("{path} has {} GiB left", facts.free / LITTLE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn room_and_privacy() {
        let of =
            |free, files_left, mode| judge("/s", &Facts { free: free * MIB, files_left, mode });
        assert_eq!(of(5000, 1000, 0o700), Judgement::ok("/s has 4 GiB left"));
        assert_eq!(of(500, 1000, 0o700).verdict, Verdict::Warn);
        assert_eq!(of(50, 1000, 0o700).sentence, "/s has 50 MiB left");
        assert_eq!(of(5000, 3, 0o700).sentence, "/s has room for 3 more files");
        assert_eq!(of(5000, 3, 0o700).verdict, Verdict::Fail);
        assert_eq!(of(5000, 1000, 0o755).cure.as_deref(), Some("chmod 700 /s"));
        let open = of(5000, 1000, 0o777);
        assert_eq!(open.sentence, "others may write to /s (mode 777)");
        assert_eq!((open.verdict, open.cure.as_deref()), (Verdict::Warn, Some("chmod 700 /s")));
    }
}
