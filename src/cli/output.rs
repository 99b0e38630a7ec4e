//! Printing that ends quietly when the reader goes away.

use std::io::{ErrorKind, Write};

use geartrain::train::Error;
pub use geartrain::train::words::thousands;

use super::Failure;

/// Prints a line on standard output.
pub fn line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Prints text on standard output as it stands.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::ClosedPipe),
        Err(error) => Err(Failure::Error(Error::failed(format!("cannot write to standard output: {error}")))),
    }
}

/// Prints a line on standard error; that nobody reads it is no reason to fail.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// `850 ms`, `12.3 s`, `4 min 05 s`
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 60.0 => format!("{s:.1} s"),
        s => format!("{} min {:02} s", (s / 60.0) as u64, s as u64 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([duration(0.85), duration(12.34), duration(245.0)], ["850 ms", "12.3 s", "4 min 05 s"]);
    }
}
