//! Compares a component's world with the contract, import by import, function by function, type by
//! type, and names the first difference of each.
//!
//! The contract is `wit/transform.wit` itself, compiled in: there is no second copy of it in code.

use std::sync::OnceLock;

use wit_parser::{Function, FunctionKind, Interface, InterfaceId, Resolve, Type, TypeDefKind, WorldId, WorldItem};

use super::remedy::{self, Tools};

const PACKAGE: &str = "forebay:transform/";
const VERSION: &str = "0.1.0";
const EXPORTS: [&str; 2] = ["lifecycle", "processing"];
/// What is drafted in `wit/drafts` and not built yet: no module that asks for it can run.
const DRAFTS: &str = "forebay:transform-drafts/";
/// Drafted interfaces that a module would export, with the world that asks for them.
const DRAFT_EXPORTS: [(&str, &str); 3] = [("aggregation", "aggregate"), ("joining", "join"), ("decoding", "decode")];

/// Everything in which the world differs from `transform`, each with its remedy.
pub(super) fn differences(theirs: &Resolve, world: WorldId, tools: &Tools) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut wasi = Vec::new();
    let world = &theirs.worlds[world];
    for (key, item) in &world.imports {
        let name = theirs.name_world_key(key);
        match item {
            WorldItem::Interface { .. } if name.starts_with("wasi:") => wasi.push(name),
            WorldItem::Interface { id, .. } => import(theirs, *id, &name, &mut reasons),
            WorldItem::Function(_) => reasons.push(unknown_import(&name)),
            WorldItem::Type { .. } => {}
        }
    }
    if !wasi.is_empty() {
        let wasi: Vec<&str> = wasi.iter().map(String::as_str).collect();
        reasons.push(remedy::wasi(&wasi, tools));
    }
    let mut exported = Vec::new();
    for (key, item) in &world.exports {
        let name = theirs.name_world_key(key);
        if let Some(draft) = draft(&name) {
            reasons.push(draft_export(&name, draft));
        } else if let (WorldItem::Interface { id, .. }, Some(ours)) = (item, in_package(&name)) {
            exported.push(ours.0.to_owned());
            export(theirs, *id, ours, &mut reasons);
        }
    }
    for missing in EXPORTS.iter().filter(|wanted| !exported.iter().any(|name| name == *wanted)) {
        let remedy = "implement all of world `transform`; the SDK does it for you";
        reasons.push(format!("the module does not export {PACKAGE}{missing}@{VERSION}: {remedy}"));
    }
    reasons
}

/// Name and version of an interface of our package.
fn in_package(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(PACKAGE)?;
    Some(rest.split_once('@').unwrap_or((rest, "")))
}

/// The name of a drafted interface.
fn draft(full: &str) -> Option<&str> {
    let rest = full.strip_prefix(DRAFTS)?;
    Some(rest.split_once('@').map_or(rest, |(name, _)| name))
}

fn draft_export(full: &str, draft: &str) -> String {
    let world = DRAFT_EXPORTS.iter().find(|(name, _)| *name == draft).map_or(draft, |(_, world)| world);
    format!(
        "the module exports {full} (world `{world}`), a draft that this host does not run yet: build it for world \
         `transform`"
    )
}

fn import(theirs: &Resolve, id: InterfaceId, full: &str, reasons: &mut Vec<String>) {
    if draft(full).is_some() {
        let instead = "use value states that travel with the batch";
        return reasons.push(format!("the module imports {full}, a draft that this host does not run yet: {instead}"));
    }
    let Some((name, version)) = in_package(full) else {
        return reasons.push(unknown_import(full));
    };
    if version != VERSION {
        return reasons.push(other_version("imports", full));
    }
    let Some(ours) = interface(name) else {
        return reasons.push(unknown_import(full));
    };
    // A build drops imports that it does not use, so theirs may have fewer functions than ours.
    for (function_name, function) in &theirs.interfaces[id].functions {
        match ours.functions.get(function_name) {
            Some(wanted) => reasons.extend(function_difference(theirs, function, wanted, full)),
            None => reasons.push(unknown_import(&format!("{full} `{}`", function_name.escape_debug()))),
        }
    }
}

fn export(theirs: &Resolve, id: InterfaceId, (name, version): (&str, &str), reasons: &mut Vec<String>) {
    let full = format!("{PACKAGE}{name}@{version}");
    if version != VERSION {
        return reasons.push(other_version("exports", &full));
    }
    let Some(ours) = interface(name) else { return };
    for (function_name, wanted) in &ours.functions {
        match theirs.interfaces[id].functions.get(function_name) {
            Some(function) => reasons.extend(function_difference(theirs, function, wanted, &full)),
            None => reasons.push(format!("the module's {full} lacks the function `{function_name}`")),
        }
    }
}

fn unknown_import(name: &str) -> String {
    format!("the module imports {}, which this host does not have: remove what needs it", name.escape_debug())
}

fn other_version(verb: &str, full: &str) -> String {
    format!("the module {verb} {full}, this host speaks version {VERSION}: build it with the SDK of that version")
}

fn function_difference(theirs: &Resolve, found: &Function, wanted: &Function, interface: &str) -> Option<String> {
    let difference = compare_functions(theirs, found, wanted)?;
    let remedy = format!("build it against the WIT of forebay:transform@{VERSION}");
    Some(format!("{interface} `{}` has another type than the contract: {difference}; {remedy}", wanted.name))
}

fn compare_functions(theirs: &Resolve, found: &Function, wanted: &Function) -> Option<String> {
    if found.kind != FunctionKind::Freestanding {
        return Some("it is asynchronous or a method".to_owned());
    }
    if found.params.len() != wanted.params.len() {
        return Some(format!("it takes {} parameters, not {}", found.params.len(), wanted.params.len()));
    }
    let parameters = found.params.iter().zip(&wanted.params).find_map(|(found, wanted)| {
        if found.name != wanted.name {
            return Some(format!("parameter `{}` is called `{}`", wanted.name, found.name.escape_debug()));
        }
        compare(theirs, Some(found.ty), Some(wanted.ty), &format!("parameter `{}`", wanted.name))
    });
    parameters.or_else(|| compare(theirs, found.result, wanted.result, "the result"))
}

/// The first place at which two types differ. Goes as deep as the contract's own types do.
fn compare(theirs: &Resolve, found: Option<Type>, wanted: Option<Type>, path: &str) -> Option<String> {
    let (found, wanted) = (Layer::of(theirs, found), Layer::of(ours(), wanted));
    if found.kind != wanted.kind {
        return Some(format!("{path} is {}, not {}", found.kind, wanted.kind));
    }
    let names = |layer: &Layer| layer.members.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let (found_names, wanted_names) = (names(&found), names(&wanted));
    if found_names != wanted_names {
        let list = |names: Vec<String>| names.join(", ").escape_debug().to_string();
        return Some(format!("{path} has the members {}, not {}", list(found_names), list(wanted_names)));
    }
    found
        .members
        .iter()
        .zip(&wanted.members)
        .find_map(|((name, found), (_, wanted))| compare(theirs, *found, *wanted, &format!("{path}, `{name}`")))
}

/// One layer of a type: what it is made with, and of what.
struct Layer {
    kind: &'static str,
    members: Vec<(String, Option<Type>)>,
}

impl Layer {
    fn of(resolve: &Resolve, ty: Option<Type>) -> Self {
        let Some(ty) = ty else { return Self { kind: "nothing", members: Vec::new() } };
        let Type::Id(id) = ty else { return Self { kind: primitive(ty), members: Vec::new() } };
        let kind = &resolve.types[id].kind;
        let one = |name: &str, ty: Option<Type>| (name.to_owned(), ty);
        let members = match kind {
            TypeDefKind::Type(aliased) => return Self::of(resolve, Some(*aliased)),
            TypeDefKind::List(element) => vec![one("element", Some(*element))],
            TypeDefKind::Option(some) => vec![one("some", Some(*some))],
            TypeDefKind::Result(result) => vec![one("ok", result.ok), one("error", result.err)],
            TypeDefKind::Record(record) => record.fields.iter().map(|f| one(&f.name, Some(f.ty))).collect(),
            TypeDefKind::Variant(variant) => variant.cases.iter().map(|c| one(&c.name, c.ty)).collect(),
            TypeDefKind::Enum(cases) => cases.cases.iter().map(|c| one(&c.name, None)).collect(),
            TypeDefKind::Flags(flags) => flags.flags.iter().map(|f| one(&f.name, None)).collect(),
            TypeDefKind::Tuple(tuple) => tuple.types.iter().map(|ty| one("part", Some(*ty))).collect(),
            _ => Vec::new(),
        };
        Self { kind: kind.as_str(), members }
    }
}

fn primitive(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        Type::Id(_) => "a named type",
    }
}

fn interface(name: &str) -> Option<&'static Interface> {
    let resolve = ours();
    resolve.interfaces.iter().map(|(_, interface)| interface).find(|i| i.name.as_deref() == Some(name))
}

fn ours() -> &'static Resolve {
    static OURS: OnceLock<Resolve> = OnceLock::new();
    OURS.get_or_init(|| {
        let mut resolve = Resolve::default();
        let wit = include_str!("../../../../wit/transform.wit");
        resolve
            .push_str("transform.wit", wit)
            .expect("the contract is a file of this repository that every build reads");
        resolve
    })
}
