// SPDX-License-Identifier: GPL-2.0

//! The JSON that commands print.

mod common;

use bow_model::log::Version;
use serde_json::Value;

use common::{bowctl, ends, json, Image};

#[test]
fn the_log_as_json() {
    let image = Image::new(Version::V1_2, 512);
    let log = json(&image.run(&["log", "--json"]), 0);
    let blocks = log["blocks"].as_array().unwrap();
    let entries: u64 = blocks
        .iter()
        .map(|block| block["entries"].as_array().unwrap().len() as u64)
        .sum();

    assert_eq!(blocks.len() as u64, image.history.log_blocks());
    assert_eq!(
        entries,
        image.history.total_entries + image.history.grants as u64
    );
    let grants: usize = blocks
        .iter()
        .flat_map(|block| block["entries"].as_array().unwrap())
        .filter(|entry| entry["grant"] == true && entry["size"] == 0)
        .count();
    assert_eq!(grants, image.history.grants);
    assert_eq!(log["summary"]["entries"], image.history.total_entries);
    assert_eq!(blocks[0]["sector"], 0);
    assert_eq!(blocks[0]["version"], "1.2");
    assert_eq!(blocks[0]["free_map_sector"], image.history.map.0);
    assert_eq!(blocks[0]["free_map_blocks"], image.history.map.1);
    assert_eq!(blocks[0]["boot_action"], "none");
    let free = image
        .history
        .free_at_checkpoint
        .iter()
        .filter(|free| **free);
    let map = &log["summary"]["free_map"];
    assert_eq!(map["free_bytes"], free.count() * 512);
    assert!(map["zero_bytes"].as_u64().unwrap() > 0);
    assert_eq!(blocks[0]["sector0"], image.history.sector0());
    assert_eq!(blocks[0]["time"], image.history.identity().1);
    let uuid: String = image
        .history
        .identity()
        .0
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let shown = blocks[0]["uuid"].as_str().unwrap().replace('-', "");
    assert_eq!(shown, uuid);
    assert_eq!(log["error"], Value::Null);

    let check = json(&image.run(&["check", "--json"]), 0);
    assert_eq!(check, log["summary"]);
}

/// The fields of each JSON object are in the help of the command that prints it.
#[test]
fn json_fields_are_documented() {
    fn fields(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    found.push(name.clone());
                    fields(value, found);
                }
            }
            Value::Array(array) => array.iter().for_each(|value| fields(value, found)),
            _ => {}
        }
    }
    let image = Image::new(Version::V1_1, 1024);
    let help = |command: &str| ends(&bowctl(&[command, "--help"]), 0).0;
    let blocks = [help("log"), help("check")].concat();

    for command in ["status", "log", "check", "map", "diff"] {
        let mut found = Vec::new();

        fields(&json(&image.run(&[command, "--json"]), 0), &mut found);
        assert!(!found.is_empty());
        for field in found {
            // Log blocks and summaries are described there.
            let text = [help(command), blocks.clone()].concat();

            assert!(text.contains(&field), "{command}: {field}");
        }
    }
}
