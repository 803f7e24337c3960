//! Sizes: `7.8kB` (powers of 1000, for storage) and `1.5MiB` (powers of 1024, for memory), and back.

/// Powers of 1000 with as many digits as `docker images` shows.
pub fn decimal_short(bytes: i64) -> String {
    scaled(
        as_float(bytes),
        1000.0,
        &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"],
        3,
    )
}

/// Powers of 1000 with four digits.
pub fn decimal(bytes: f64) -> String {
    scaled(
        bytes,
        1000.0,
        &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"],
        4,
    )
}

/// Powers of 1024 with four digits.
pub fn binary(bytes: f64) -> String {
    scaled(
        bytes,
        1024.0,
        &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"],
        4,
    )
}

/// A byte count as a fraction; the digits shown are far fewer than it holds.
#[allow(clippy::cast_precision_loss)]
pub fn as_float(bytes: i64) -> f64 {
    bytes as f64
}

fn scaled(mut size: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while size >= base && unit < units.len() - 1 {
        size /= base;
        unit += 1;
    }
    format!("{}{}", significant(size, digits), units[unit])
}

/// Go's `%.{digits}g`: that many significant digits, an exponent when there are more before the point.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let exponent_form = format!("{value:.*e}", digits - 1);
    let exponent: i32 = exponent_form
        .rsplit('e')
        .next()
        .and_then(|e| e.parse().ok())
        .unwrap_or(0);
    let limit = i32::try_from(digits).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= limit {
        let mantissa = trim_zeros(exponent_form.split('e').next().unwrap_or_default());
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let decimals = usize::try_from(limit - 1 - exponent).unwrap_or(0);
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

/// Reads `512`, `64m`, `1.5GiB`, `10kb` as powers of 1024 (Docker's `RAMInBytes`).
///
/// # Errors
/// Docker's text for what is not a size.
pub fn parse_binary(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let digits_end = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.')
        .ok_or_else(invalid)?;
    let (number, unit) = text.split_at(digits_end + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let value: f64 = number.parse().map_err(|_| invalid())?;
    if value < 0.0 || number.starts_with(['+', '-']) {
        return Err(invalid());
    }
    let unit = unit.trim_start().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if unit.is_empty() || unit == "b" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => {
            return Err(format!(
                "invalid suffix: '{}'",
                text.split_at(digits_end + 1).1.trim_start()
            ));
        }
    };
    #[allow(clippy::cast_possible_truncation)] // saturates, and no such amount exists
    Ok((value * 1024f64.powi(power)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_listings_show_them() {
        for (bytes, short, long) in [
            (0, "0B", "0B"),
            (7_800, "7.8kB", "7.8kB"),
            (10_070, "10.1kB", "10.07kB"),
            (999, "999B", "999B"),
            (116_512_345, "117MB", "116.5MB"),
            (1_500_000_000, "1.5GB", "1.5GB"),
            (999_950, "1e+03kB", "1000kB"),
        ] {
            assert_eq!(decimal_short(bytes), short, "{bytes}");
            assert_eq!(decimal(as_float(bytes)), long, "{bytes}");
        }
        assert_eq!(binary(1_572_864.0), "1.5MiB");
        assert_eq!(binary(25_246_171_136.0), "23.51GiB");
    }

    #[test]
    fn sizes_as_people_write_them() {
        for (text, expected) in [
            ("512", Ok(512)),
            ("64m", Ok(64 << 20)),
            ("1.5GiB", Ok(3 << 29)),
            ("10kb", Ok(10240)),
            ("2 GB", Ok(2 << 30)),
            ("0", Ok(0)),
            ("abc", Err("invalid size: 'abc'")),
            ("-1", Err("invalid size: '-1'")),
            ("5x", Err("invalid suffix: 'x'")),
            ("", Err("invalid size: ''")),
        ] {
            assert_eq!(
                parse_binary(text),
                expected.map_err(str::to_owned),
                "{text}"
            );
        }
    }
}
