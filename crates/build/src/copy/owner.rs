//! `--chown=user[:group]`, looked up in the image being built.

use std::io;

use crate::files::Files;

/// Longest user database that is read; the image is not trusted.
const MAX_DATABASE: u64 = 16 << 20;

/// Why an owner cannot be found, in Docker's words.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// Nothing, or more than two parts.
    #[error("invalid chown string format: {0}")]
    Format(String),
    /// No such user.
    #[error("can't find uid for user {0}: no such user: {0}")]
    User(String),
    /// No such group.
    #[error("can't find gid for group {0}: no such group: {0}")]
    Group(String),
    /// The databases cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// User and group of `text`; the group is the user's text again if it is not given, as Docker has it.
pub fn owner(text: &str, files: &dyn Files) -> Result<(u32, u32), OwnerError> {
    let parts: Vec<&str> = text.split(':').collect();
    let (user, group) = match parts.as_slice() {
        [user] if !user.is_empty() => (*user, *user),
        [user, group] if !user.is_empty() && !group.is_empty() => (*user, *group),
        _ => return Err(OwnerError::Format(text.to_owned())),
    };
    let uid = match user.parse() {
        Ok(uid) => uid,
        Err(_) => {
            lookup(files, b"etc/passwd", user)?.ok_or_else(|| OwnerError::User(user.to_owned()))?
        }
    };
    let gid = match group.parse() {
        Ok(gid) => gid,
        Err(_) => lookup(files, b"etc/group", group)?
            .ok_or_else(|| OwnerError::Group(group.to_owned()))?,
    };
    Ok((uid, gid))
}

/// The number in the third field of the line of that name.
fn lookup(files: &dyn Files, path: &[u8], name: &str) -> io::Result<Option<u32>> {
    let path = files.resolve(path)?;
    let bytes = match files.content(&path) {
        Ok(content) => content.to_vec(MAX_DATABASE)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    }))
}
