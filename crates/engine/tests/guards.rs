//! The shape of the source: length of files, direction of dependencies, where `unsafe` may stand.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines a source file may have.
const LINES: usize = 550;

/// The crates from left to right: each may depend only on those before it.
const CRATES: [&str; 6] =
    ["geartrain-kernels", "geartrain-engine", "geartrain-nn", "geartrain-train", "geartrain", "geartrain-lab"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files below `folder` whose name ends with `end`, without build output and hidden folders.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.starts_with('.') || name == "target" || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if name.ends_with(end) {
            found.push(path);
        }
    }
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The name of a package and the crates of this project that it depends on.
fn package(manifest: &str) -> Option<(String, Vec<String>)> {
    let (mut section, mut name, mut uses) = (String::new(), None, Vec::new());
    for line in manifest.lines().map(str::trim) {
        if let Some(head) = line.strip_prefix('[') {
            section = head.trim_end_matches(']').to_string();
            // [dependencies.geartrain-x]
            let dotted = section.split_once("dependencies.").map(|(_, name)| name.to_string());
            uses.extend(dotted.filter(|_| !section.starts_with("workspace")));
        } else if section == "package" && line.starts_with("name") {
            name = line.split('"').nth(1).map(str::to_string);
        } else if section.ends_with("dependencies") && !section.starts_with("workspace") {
            uses.extend(line.split(['.', ' ', '=']).next().map(str::to_string));
        }
    }
    uses.retain(|u| u.starts_with("geartrain"));
    name.map(|name| (name, uses))
}

/// Dependencies that point right.
fn wrong_arrows(manifest: &str) -> Vec<String> {
    let Some((name, uses)) = package(manifest) else { return Vec::new() };
    let place = |name: &str| CRATES.iter().position(|c| *c == name);
    let Some(own) = place(&name) else { return vec![format!("{name} has no place in the order of crates")] };
    uses.iter().filter(|u| place(u).is_none_or(|p| p >= own)).map(|u| format!("{name} uses {u}")).collect()
}

/// Modules of the own crate that a source names, without its tests: `crate::a::b` and `crate::{a::b, c}` give paths.
fn used(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or("");
    let code: Vec<&str> = source.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
    let code = code.join(" ");
    let mut paths = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let path_end = |s: &str| s.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(s.len());
        match rest.strip_prefix('{') {
            None => paths.push(rest[..path_end(rest)].to_string()),
            Some(group) => {
                let mut depth = 0;
                let inside = |c: char| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    depth >= 0
                };
                let group: String = group
                    .chars()
                    .take_while({
                        let mut inside = inside;
                        move |c| inside(*c)
                    })
                    .collect();
                paths.extend(split_top(&group).into_iter().map(|item| item[..path_end(&item)].to_string()));
            }
        }
    }
    paths
}

/// The items of `a, b::{c, d}, e` at the outermost level.
fn split_top(group: &str) -> Vec<String> {
    let (mut items, mut depth) = (vec![String::new()], 0);
    for c in group.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match (c, depth) {
            (',', 0) => items.push(String::new()),
            _ => items.last_mut().into_iter().for_each(|item| item.push(c)),
        }
    }
    items.iter().map(|item| item.trim().to_string()).filter(|item| !item.is_empty()).collect()
}

/// Modules of the engine that a source in `folder` may not use.
fn wrong_uses(folder: &str, file: &str, source: &str) -> Vec<String> {
    let forbidden: &[&str] = match folder {
        "ir" => &["ops", "autodiff", "compile", "run", "check"],
        "ops" => &["compile", "run", "check"],
        "compile" => &["check"],
        "run" => &["check"],
        _ => &[],
    };
    let operators = |path: &str| file == "builder.rs" && path.starts_with("ops::arith");
    let wrong = |path: &String| {
        let module = path.split(':').next().unwrap_or("");
        forbidden.contains(&module) && !(folder == "ir" && operators(path))
    };
    used(source).into_iter().filter(wrong).map(|path| format!("{folder}/{file} uses {path}")).collect()
}

#[test]
fn no_file_is_long() {
    let all = files(&root(), ".rs");
    assert!(all.len() > 30, "only {} files found", all.len());
    let lengths = all.iter().map(|path| (read(path).lines().count(), path));
    let long: Vec<String> = lengths.filter(|(n, _)| *n > LINES).map(|(n, p)| format!("{}: {n}", p.display())).collect();
    assert!(long.is_empty(), "over {LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn crates_depend_to_the_left_only() {
    let mut manifests = vec![root().join("Cargo.toml")];
    manifests.extend(files(&root().join("crates"), "Cargo.toml"));
    assert!(manifests.len() >= 5, "only {} manifests found", manifests.len());
    let wrong: Vec<String> = manifests.iter().flat_map(|m| wrong_arrows(&read(m))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_of_the_engine_depend_to_the_left_only() {
    let mut wrong = Vec::new();
    for folder in ["ir", "ops", "compile", "run"] {
        let all = files(&root().join("crates/engine/src").join(folder), ".rs");
        assert!(!all.is_empty(), "no files in {folder}");
        for path in all {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            wrong.extend(wrong_uses(folder, &file, &read(&path)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_kernels_may_be_unsafe() {
    let mut libraries = files(&root().join("crates"), "src/lib.rs".trim_start_matches("src/"));
    libraries.push(root().join("src/lib.rs"));
    libraries.push(root().join("src/main.rs"));
    let kernels = root().join("crates/kernels");
    for path in libraries.iter().filter(|p| p.exists() && !p.starts_with(&kernels)) {
        assert!(read(path).contains("#![forbid(unsafe_code)]"), "{} does not forbid unsafe code", path.display());
    }
}

#[test]
fn the_guards_see_what_is_planted() {
    let manifest = "[package]\nname = \"geartrain-nn\"\n[dependencies]\ngeartrain-engine.workspace = true\n";
    assert!(wrong_arrows(manifest).is_empty());
    assert_eq!(wrong_arrows(&format!("{manifest}geartrain-train.workspace = true\n")).len(), 1);
    assert_eq!(wrong_arrows(&format!("{manifest}[dev-dependencies]\ngeartrain = {{ path = \"..\" }}\n")).len(), 1);
    assert_eq!(wrong_arrows(&format!("{manifest}[dependencies.geartrain-train]\npath = \"..\"\n")).len(), 1);

    assert_eq!(wrong_uses("ops", "a.rs", "use crate::compile::fuse;").len(), 1);
    assert_eq!(wrong_uses("ops", "a.rs", "use crate::{\n    ir::op::{Op, Case},\n    run::batch,\n};").len(), 1);
    assert_eq!(wrong_uses("ir", "graph.rs", "fn f() { crate::ops::arith::add() }").len(), 1);
    assert!(wrong_uses("ir", "builder.rs", "use crate::ops::arith::{Add, Sub};").is_empty());
    assert_eq!(wrong_uses("ir", "builder.rs", "use crate::ops::matmul::Matmul;").len(), 1);
    assert!(
        wrong_uses("ops", "a.rs", "// crate::check\nuse crate::ir::op;\n#[cfg(test)]\nuse crate::check;").is_empty()
    );
}
