//! Lines as `sha256sum` writes them and `sha256sum -c` reads them.

use std::path::Path;

/// The line for a file: the digest in hexadecimal, two spaces, the name. A name with a newline, a
/// carriage return or a backslash is escaped, and the line then begins with a backslash. The bytes
/// of the name are kept as they are.
pub(crate) fn line(digest: &[u8; 32], path: &Path) -> Vec<u8> {
    let name = path.as_os_str().as_encoded_bytes();
    let escaped = name.iter().any(|byte| matches!(byte, b'\n' | b'\r' | b'\\'));
    let mut line = Vec::with_capacity(name.len() + 70);
    if escaped {
        line.push(b'\\');
    }
    for byte in digest {
        line.push(HEX[usize::from(byte >> 4)]);
        line.push(HEX[usize::from(byte & 15)]);
    }
    line.extend_from_slice(b"  ");
    for &byte in name {
        match byte {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\\' => line.extend_from_slice(b"\\\\"),
            byte => line.push(byte),
        }
    }
    line.push(b'\n');
    line
}

/// The digits.
const HEX: &[u8; 16] = b"0123456789abcdef";
