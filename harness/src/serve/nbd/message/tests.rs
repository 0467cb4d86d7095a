use super::*;

#[test]
fn a_request_is_parsed_as_it_was_printed_and_nothing_else_is_one() {
    let request = Request {
        flags: command_flags::FUA,
        command: Command::Write.number(),
        cookie: 0x0102_0304_0506_0708,
        offset: 1 << 40,
        length: 4096,
    };
    let bytes = request.print();
    assert_eq!(Request::parse(bytes), Ok(request));
    let mut wrong = bytes;
    wrong[0] = 0;
    let error = Request::parse(wrong).unwrap_err().to_string();
    assert_eq!(error, "found 0x00609513, expected a request");
}

#[test]
fn what_an_option_says_of_its_lengths_is_checked() {
    let info = |name_len: u32, name: &[u8], kinds: &[u16]| {
        let mut data = name_len.to_be_bytes().to_vec();
        data.extend(name);
        data.extend((kinds.len() as u16).to_be_bytes());
        data.extend(kinds.iter().flat_map(|kind| kind.to_be_bytes()));
        data
    };
    let data = info(4, b"disk", &[3, 77]);
    let parsed = InfoRequest::parse(&data).unwrap();
    assert_eq!(parsed.name, b"disk");
    assert_eq!(parsed.kinds, [InfoKind::BlockSize]);
    for (data, why) in [
        (info(5, b"disk", &[]), "found 1 bytes, expected more data"),
        (info(3, b"disk", &[]), "found"),
        (
            info(5000, b"disk", &[]),
            "found a string of 5000 bytes, expected at most 4096",
        ),
        (b"".to_vec(), "found 0 bytes, expected more data"),
    ] {
        let error = InfoRequest::parse(&data).unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}");
    }
    // Four thousand million queries in eight bytes.
    let mut data = 0u32.to_be_bytes().to_vec();
    data.extend(u32::MAX.to_be_bytes());
    assert!(MetaRequest::parse(&data).is_err());
}

#[test]
fn replies_have_the_bytes_of_the_protocol() {
    let mut out = Vec::new();
    simple_reply(&mut out, 7, Some(Error::NoSpace));
    assert_eq!(
        out,
        [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 7]
    );
    out.clear();
    data_chunk(&mut out, 7, 512, 1024);
    let chunk = [
        0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 4, 8,
    ];
    assert_eq!(out[..20], chunk);
    assert_eq!(out[20..], 512u64.to_be_bytes());
    out.clear();
    error_chunk(&mut out, 7, Error::Io);
    assert_eq!(out[4..8], [0, 1, 0x80, 1]);
    assert_eq!(out[20..], [0, 0, 0, 5, 0, 0]);
    out.clear();
    block_status_chunk(&mut out, 7, 1, &[(512, 3)], false);
    assert_eq!(out[4..8], [0, 0, 0, 5]);
    assert_eq!(out[16..], [0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 3]);
}
