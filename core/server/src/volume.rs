//! What kind of file system the data is on: SQLite shares memory between its connections and relies on locks, which some
//! file systems only pretend to have. Days later the file is damaged.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// By the magic numbers of statfs(2).
const DOUBTFUL: &[(i64, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE (sshfs, or a directory of the host in a virtual machine)"),
];

fn named(magic: i64) -> Option<&'static str> {
    // The kernel's number has 32 bits; some platforms extend its sign.
    DOUBTFUL.iter().find(|(known, _)| *known == magic & 0xffff_ffff).map(|(_, name)| *name)
}

/// The name of a file system on which no database should be.
pub(crate) fn doubtful(path: &Path) -> Option<&'static str> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    #[expect(unsafe_code, reason = "std does not tell the file system")]
    // SAFETY: the path ends with a zero, and the struct is written by the call alone; all zeroes are a valid one.
    let (done, about) = unsafe {
        let mut about: libc::statfs = std::mem::zeroed();
        (libc::statfs(path.as_ptr(), &raw mut about), about)
    };
    #[expect(clippy::unnecessary_cast, reason = "of another width on other platforms")]
    let magic = about.f_type as i64;
    if done == 0 { named(magic) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_without_real_locks_are_named_and_others_are_not() {
        for (magic, name) in [(0x6969, "NFS"), (-0x00ac_b2be, "CIFS"), (0xff53_4d42, "CIFS"), (0x0102_1997, "9p")] {
            assert_eq!(named(magic), Some(name), "{magic:x}");
        }
        // ext4, xfs, btrfs, tmpfs, overlayfs.
        for magic in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630] {
            assert_eq!(named(magic), None, "{magic:x}");
        }
        assert_eq!(doubtful(Path::new("/proc")), None);
        assert_eq!(doubtful(Path::new("/nowhere/at/all")), None);
    }
}
