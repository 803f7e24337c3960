//! Where a container's log is kept: what the monitor is told, and what readers look at.

use std::path::{Path, PathBuf};

use wharf_runtime::client::{FilePlan, LogPlan};

use super::log_driver::Driver;
use super::log_options::{self as options, Options};
use super::log_tag;
use super::record::Record;
use crate::{Error, Result};

/// Our own default rotation of json-file; Docker's is none. Two million ordinary lines stay readable, no container fills a disk.
const DEFAULT_SIZE: u64 = 64_000_000;
const DEFAULT_FILES: u32 = 5;

/// Docker's defaults of `local`, and of the copy kept beside a log service.
const LOCAL_SIZE: u64 = 20 * 1024 * 1024;
const LOCAL_FILES: u32 = 5;

/// What the options of that copy begin with.
pub const CACHE_PREFIX: &str = "cache-";

/// How a log rotates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes of a full file.
    pub max_size: Option<u64>,
    /// Files in all.
    pub max_file: u32,
    /// gzip rotated files.
    pub compress: bool,
}

impl Rotation {
    /// Of `json-file`.
    pub fn of_json_file(given: &Options) -> Result<Rotation, String> {
        let max_size = match given.get("max-size").map(String::as_str) {
            // A user who sets another option of rotation has it his way, otherwise ours applies.
            None if !given.contains_key("max-file") && !given.contains_key("compress") => {
                return Ok(Rotation {
                    max_size: Some(DEFAULT_SIZE),
                    max_file: DEFAULT_FILES,
                    compress: true,
                });
            }
            None | Some("-1") => None,
            Some(text) => Some(
                options::decimal_size(text)
                    .map_err(|why| format!("invalid value for max-size: {text}: {why}"))
                    .and_then(|size| match size {
                        0 => Err("max-size must be a positive number".into()),
                        size => Ok(size),
                    })?,
            ),
        };
        let max_file = match given.get("max-file") {
            None => 1,
            Some(text) => files(text)?,
        };
        if max_file < 1 {
            return Err("max-file cannot be less than 1".into());
        }
        let compress = compressed(given, "compress", false)?;
        if compress && (max_file == 1 || max_size.is_none()) {
            return Err(
                "compress cannot be true when max-file is less than 2 or max-size is not set"
                    .into(),
            );
        }
        Ok(Rotation {
            max_size,
            max_file,
            compress,
        })
    }

    /// Of `local`, and of copies, whose options have a prefix.
    pub fn of_local(given: &Options, prefix: &str) -> Result<Rotation, String> {
        let option = |key: &str| given.get(&format!("{prefix}{key}"));
        let max_size = match option("max-size") {
            None => LOCAL_SIZE,
            Some(text) => options::decimal_size(text)
                .map_err(|why| format!("invalid value for max-size: {text}: {why}"))?,
        };
        let max_file = match option("max-file") {
            None => LOCAL_FILES,
            Some(text) => files(text)?,
        };
        let compress = compressed(given, &format!("{prefix}compress"), true)?;
        if compress && max_file <= 1 {
            return Err("compression cannot be enabled when max file count is 1".into());
        }
        Ok(Rotation {
            max_size: (max_size > 0).then_some(max_size),
            max_file: max_file.max(1),
            compress,
        })
    }

    fn plan(self, path: PathBuf, attrs: Vec<(String, String)>) -> FilePlan {
        FilePlan {
            path,
            max_size: self.max_size,
            max_file: self.max_file,
            compress: self.compress,
            attrs,
        }
    }
}

fn files(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(number) => Ok(u32::try_from(number.max(0)).unwrap_or(u32::MAX)),
        Err(_) => Err(format!(
            "invalid value for max-file: {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
        )),
    }
}

fn compressed(given: &Options, key: &str, default: bool) -> Result<bool, String> {
    match given.get(key) {
        None => Ok(default),
        Some(text) => options::boolean(text).ok_or_else(|| {
            format!(
                "invalid boolean value for compress: strconv.ParseBool: parsing {text:?}: invalid syntax"
            )
        }),
    }
}

/// What the monitor is told.
pub fn plan(record: &Record, directory: &Path) -> Result<LogPlan> {
    let driver = Driver::named(&record.host_config.log_config.kind)?;
    let failed =
        |why: String| Error::internal(format!("failed to initialize logging driver: {why}"));
    let file = || plan_file(record, driver, directory).map_err(failed);
    Ok(match driver {
        Driver::None => LogPlan::None,
        Driver::JsonFile | Driver::Local => file()?.map_or(LogPlan::None, LogPlan::File),
        Driver::Service(service) => LogPlan::Shipped {
            destination: service.destination(record).map_err(failed)?,
            limit: options::buffer(&record.log_options),
            cache: file()?,
        },
    })
}

/// The files that `logs` reads; `None`: there are none.
pub fn readable(record: &Record, directory: &Path) -> Result<Option<FilePlan>> {
    let driver = Driver::named(&record.host_config.log_config.kind)?;
    plan_file(record, driver, directory).map_err(Error::internal)
}

fn plan_file(
    record: &Record,
    driver: Driver,
    directory: &Path,
) -> Result<Option<FilePlan>, String> {
    let given = &record.log_options;
    let (rotation, path) = match driver {
        Driver::None => return Ok(None),
        Driver::JsonFile => (
            Rotation::of_json_file(given)?,
            directory.join(format!("{}-json.log", record.id)),
        ),
        Driver::Local => (
            Rotation::of_local(given, "")?,
            directory.join("local-logs").join("container.log"),
        ),
        Driver::Service(_) if !options::is_cached(given) => return Ok(None),
        Driver::Service(_) => (
            Rotation::of_local(given, CACHE_PREFIX)?,
            directory.join("container-cached.log"),
        ),
    };
    Ok(Some(rotation.plan(path, log_tag::attributes(record)?)))
}

#[cfg(test)]
mod tests {
    use super::super::log_options::tests::options;
    use super::super::log_tag::tests::record;
    use super::*;

    #[test]
    fn rotation_is_ours_unless_the_user_chose() {
        let rotation =
            |pairs: &[(&str, &str)]| Rotation::of_json_file(&options(pairs)).expect("rotation");
        let row = |max_size, max_file, compress| Rotation {
            max_size,
            max_file,
            compress,
        };
        assert_eq!(rotation(&[]), row(Some(64_000_000), 5, true));
        assert_eq!(rotation(&[("max-size", "-1")]), row(None, 1, false));
        assert_eq!(rotation(&[("max-size", "1.5k")]), row(Some(1500), 1, false));
        let local = |pairs: &[(&str, &str)], prefix| {
            Rotation::of_local(&options(pairs), prefix).expect("rotation")
        };
        assert_eq!(local(&[], ""), row(Some(20 << 20), 5, true));
        assert_eq!(
            local(&[("cache-max-size", "1k"), ("max-size", "9k")], "cache-"),
            row(Some(1000), 5, true)
        );
    }

    #[test]
    fn every_driver_has_its_files() {
        let path = |kind: &str, pairs: &[(&str, &str)]| {
            let mut record = record(pairs);
            record.host_config.log_config.kind = kind.into();
            let file = readable(&record, Path::new("/d")).expect("a plan");
            file.map(|file| file.path.display().to_string())
        };
        assert_eq!(path("none", &[]), None);
        assert!(path("json-file", &[]).is_some_and(|path| path.ends_with("-json.log")));
        assert_eq!(
            path("local", &[]).as_deref(),
            Some("/d/local-logs/container.log")
        );
        assert_eq!(
            path("syslog", &[]).as_deref(),
            Some("/d/container-cached.log")
        );
        assert_eq!(path("syslog", &[("cache-disabled", "true")]), None);
    }
}
