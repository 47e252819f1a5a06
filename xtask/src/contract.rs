//! Tests of the contract's text: that `wit/` and its drafts parse and say what they must.

use wit_parser::{Resolve, WorldItem, WorldKey};

const RELEASED: [&str; 5] = ["types", "description", "lifecycle", "processing", "host"];

fn parsed() -> Resolve {
    let wit = crate::root().join("wit");
    let mut resolve = Resolve::default();
    resolve.push_dir(&wit).expect("the contract parses");
    resolve.push_dir(wit.join("drafts")).expect("the drafts parse beside it");
    resolve
}

/// Interfaces and worlds of a package.
fn names(resolve: &Resolve, package: &str) -> (Vec<String>, Vec<String>) {
    let found = resolve.packages.iter().find(|(_, candidate)| candidate.name.to_string() == package);
    let (_, found) = found.expect("the package is there");
    (found.interfaces.keys().cloned().collect(), found.worlds.keys().cloned().collect())
}

#[test]
fn the_contract_is_released_as_five_interfaces_and_one_world() {
    let (interfaces, worlds) = names(&parsed(), "forebay:transform@0.1.0");
    assert_eq!(interfaces, RELEASED);
    assert_eq!(worlds, ["transform"]);
}

#[test]
fn drafts_are_a_package_of_their_own() {
    let (interfaces, worlds) = names(&parsed(), "forebay:transform-drafts@0.1.0");
    assert_eq!(interfaces, ["aggregation", "joining", "decoding", "keyed-state", "tables"]);
    assert_eq!(worlds, ["aggregate", "join", "decode"]);
}

#[test]
fn world_transform_imports_nothing_that_a_draft_owns_and_exports_life_cycle_and_processing() {
    let resolve = parsed();
    let world = &resolve.worlds.iter().find(|(_, world)| world.name == "transform").expect("it is there").1;
    let name = |(key, item): (&WorldKey, &WorldItem)| match item {
        WorldItem::Interface { .. } => resolve.name_world_key(key),
        _ => "something bare".into(),
    };
    let exports: Vec<String> = world.exports.iter().map(name).collect();
    assert_eq!(exports, ["forebay:transform/lifecycle@0.1.0", "forebay:transform/processing@0.1.0"]);
    let imports: Vec<String> = world.imports.iter().map(name).collect();
    assert!(imports.contains(&"forebay:transform/host@0.1.0".to_owned()));
    assert!(imports.iter().all(|import| import.starts_with("forebay:transform/")), "{imports:?}");
}
