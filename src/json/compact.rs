/// JSON with the white space outside strings taken out; numbers and escapes stay as they are. Bytes that are not JSON
/// come out as well, without their white space.
pub fn compact(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut in_string = false;
    let mut escaped = false;
    for &byte in json {
        if in_string {
            out.push(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            in_string = byte == b'"';
            out.push(byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::compact;

    #[test]
    fn only_white_space_outside_strings_goes() {
        let json = b"{ \"a b\" :\t[ 1.0e5 ,\n \"x \\\" \\\\\" ] }\r\n";
        assert_eq!(compact(json), b"{\"a b\":[1.0e5,\"x \\\" \\\\\"]}");
    }
}
