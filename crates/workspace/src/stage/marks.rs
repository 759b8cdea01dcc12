//! Extended attributes that the overlay file system writes, under its `userxattr` option.

use std::os::fd::AsFd;
use std::path::Path;

use action::printable;
use rustix::io::Errno;

use super::StageError;

/// Beginning of their names.
const ATTRIBUTES: &str = "user.overlay.";
/// Longest list of names that is read, in bytes.
const MAX_NAMES: usize = 64 * 1024;

/// What the overlay wrote on a file or directory of the upper layer.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Marks {
    /// The directory hides what is below.
    pub(super) opaque: bool,
    /// Regular files in the directory can be whiteouts.
    pub(super) whiteouts: bool,
    /// The file is a whiteout, in such a directory.
    pub(super) whiteout: bool,
    /// It was copied from below.
    pub(super) origin: bool,
}

impl Marks {
    /// Reads them from an open file or directory of the upper layer.
    pub(super) fn read(file: impl AsFd, path: &Path) -> Result<Self, StageError> {
        let failed = || StageError::io("read the attributes of", printable(path));
        let mut list = Vec::with_capacity(MAX_NAMES);
        match rustix::fs::flistxattr(&file, rustix::buffer::spare_capacity(&mut list)) {
            Ok(_) => {}
            Err(Errno::NOTSUP) => return Ok(Self::default()),
            Err(errno) => return Err(failed()(errno)),
        }
        let mut marks = Self::default();
        for name in list.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()) {
            let Some(mark) = name.strip_prefix(ATTRIBUTES) else { continue };
            match mark {
                "opaque" => {
                    let mut value = [0u8; 8];
                    let length = rustix::fs::fgetxattr(&file, name, &mut value).map_err(failed())?;
                    marks.opaque = value[..length] == *b"y";
                    marks.whiteouts = value[..length] == *b"x";
                }
                "whiteout" => marks.whiteout = true,
                "origin" => marks.origin = true,
                "impure" | "uuid" | "nlink" | "upper" => {}
                // What the command itself wrote under such a name, escaped by the kernel.
                escaped if escaped.starts_with("overlay.") => {}
                _ => {
                    return Err(StageError::Unsupported {
                        path: printable(path),
                        attribute: name.to_owned(),
                    });
                }
            }
        }
        Ok(marks)
    }
}
