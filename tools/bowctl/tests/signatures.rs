// SPDX-License-Identifier: GPL-2.0

//! Layers and file systems that must not be on a bow device.

use std::fs;
use std::process::Command;

use bow_model::disk::Disk;
use bowctl::signature;

const KIB: usize = 1024;

/// A size that is no multiple of anything.
const SIZE: usize = 9 * 1024 * KIB + 3 * 512;

/// Returns each signature, the end of the device counting as [`SIZE`].
fn all() -> Vec<(&'static str, usize, Vec<u8>)> {
    let md = |major: u8| vec![0xfc, 0x4e, 0x2b, 0xa9, major, 0, 0, 0];
    let at = |offset: usize, bytes: &[u8]| [&vec![0; offset], bytes].concat();
    let uberblock = 0x00ba_b10c_u64.to_le_bytes();
    let nilfs2 = [2, 0, 0, 0, 0, 0, 0x34, 0x34];

    vec![
        ("LUKS2", 0, b"LUKS\xba\xbe\0\x02".to_vec()),
        ("LUKS2", 16 * KIB, b"SKUL\xba\xbe\0\x02".to_vec()),
        ("LUKS2", 4096 * KIB, b"SKUL\xba\xbe\0\x02".to_vec()),
        ("md", 4 * KIB, md(1)),
        ("md", 0, md(1)),
        ("md", (SIZE - 8 * KIB) / 4096 * 4096, md(1)),
        ("md", SIZE / (64 * KIB) * 64 * KIB - 64 * KIB, md(0)),
        ("LVM", 512, b"LABELONE".to_vec()),
        ("LVM", 3 * 512, b"LABELONE".to_vec()),
        (
            "bcache",
            4 * KIB,
            at(
                24,
                b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
            ),
        ),
        ("NILFS2", KIB, nilfs2.to_vec()),
        ("NILFS2", SIZE / 4096 * 4096 - 4096, nilfs2.to_vec()),
        ("ZFS", 128 * KIB, uberblock.to_vec()),
        ("ZFS", (256 + 128 + 127) * KIB, uberblock.to_vec()),
        (
            "ZFS",
            SIZE / (256 * KIB) * 256 * KIB - 256 * KIB + 200 * KIB,
            0x00ba_b10c_u64.to_be_bytes().to_vec(),
        ),
    ]
}

#[test]
fn each_is_found_where_it_is() {
    for (name, offset, bytes) in all() {
        let mut device = Disk::new(vec![0; SIZE]);
        device.data[offset..offset + bytes.len()].copy_from_slice(&bytes);
        let found = signature::find(&device).unwrap();
        let found = found.unwrap_or_else(|| panic!("{name} at {offset} is not found"));

        assert!(found.layer.name.contains(name), "{name}: {found:?}");
        assert!(offset as u64 >= found.offset && offset as u64 - found.offset < 1024);

        // A sector further on it is nothing.
        let mut device = Disk::new(vec![0; SIZE]);
        device.data[offset + 8 * 512 + 64..][..bytes.len()].copy_from_slice(&bytes);
        assert_eq!(signature::find(&device).unwrap(), None, "{name}");
    }
}

/// A layer with one header, in the first block, may be on a bow device; so may anything small or
/// empty.
#[test]
fn what_is_let_through() {
    for (offset, bytes) in [
        (0, &b"LUKS\xba\xbe\0\x01"[..]),
        (0, b"XFSB"),
        (4086, b"SWAPSPACE2"),
        (1080, b"\x53\xef"),
        (1024, b"\x10\x20\xf5\xf2"),
        (65600, b"_BHRfS_M"),
    ] {
        let mut device = Disk::new(vec![0; SIZE]);

        device.data[offset..offset + bytes.len()].copy_from_slice(bytes);
        assert_eq!(signature::find(&device).unwrap(), None);
    }
    for sectors in [0, 1, 2, 7, 8, 9, 17, 127, 128, 129, 513, 1024] {
        let device = Disk::new(vec![0; sectors * 512]);

        assert_eq!(signature::find(&device).unwrap(), None);
    }
}

#[test]
fn create_refuses_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");

    for (name, offset, bytes) in all() {
        let mut data = vec![0; SIZE];
        data[offset..offset + bytes.len()].copy_from_slice(&bytes);
        fs::write(&path, &data).unwrap();
        let create = |force: &[&str]| {
            let output = Command::new(env!("CARGO_BIN_EXE_bowctl"))
                .args(["create", "bow-test-none"])
                .args(force)
                .arg(&path)
                .output()
                .unwrap();

            (
                output.status.code(),
                String::from_utf8(output.stderr).unwrap(),
            )
        };
        let (code, err) = create(&[]);

        assert_eq!(code, Some(7), "{err}");
        for part in [name, "Nothing was changed", "wipefs", "--force"] {
            assert!(err.contains(part), "no \"{part}\" in: {err}");
        }
        assert!(fs::read(&path).unwrap() == data);
        // It gets as far as device mapper, which takes no files.
        let (code, err) = create(&["--force"]);
        assert_eq!(code, Some(1), "{err}");
    }
}
