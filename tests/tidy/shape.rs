//! The size of files and functions of the product, and of the structs of a core.

use crate::assert_none;
use crate::source::{Source, Token, line_of, sources, tokens};

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 80;
const STRUCT_FIELDS_MAX: usize = 15;

#[test]
fn a_file_is_one_idea() {
    let mut faults = Vec::new();
    for source in sources() {
        let lines = source.first_test_line();
        if lines > FILE_LINES_MAX {
            faults.push(format!(
                "{}:{FILE_LINES_MAX}: {lines} lines without the tests; find the two ideas in it \
                 and give each a file",
                source.path
            ));
        }
    }
    assert_none(faults);
}

#[test]
fn a_function_fits_the_screen() {
    let sources = sources();
    let product: Vec<&Source> = sources.iter().filter(|source| !source.is_tests()).collect();
    assert!(product.len() > 100, "the rule looks at the wrong place");
    assert_none(product.iter().flat_map(|source| long_functions(source)).collect());
}

#[test]
fn a_struct_of_a_core_is_one_idea() {
    let sources = sources();
    let cores: Vec<&Source> =
        sources.iter().filter(|source| source.is_core() && !source.is_tests()).collect();
    assert!(cores.len() > 30, "the rule looks at the wrong place");
    assert_none(cores.iter().flat_map(|source| wide_structs(source)).collect());
}

/// A fault for each function of more than [`FUNCTION_LINES_MAX`] lines, from `fn` on.
fn long_functions(source: &Source) -> Vec<String> {
    let bare = source.bare();
    let tokens = tokens(&bare);
    let mut faults = Vec::new();
    for (at, name) in named(&tokens, "fn") {
        let Some(open) = body(&tokens, at) else { continue };
        let first = line_of(&bare, tokens[at].at);
        let lines = line_of(&bare, tokens[closing(&tokens, open)].at) + 1 - first;
        if lines > FUNCTION_LINES_MAX {
            faults.push(format!(
                "{}:{first}: {name} has {lines} lines; give each of its parts a function",
                source.path
            ));
        }
    }
    faults
}

/// A fault for each struct of more than [`STRUCT_FIELDS_MAX`] fields.
fn wide_structs(source: &Source) -> Vec<String> {
    let bare = source.bare();
    let tokens = tokens(&bare);
    let mut faults = Vec::new();
    for (at, name) in named(&tokens, "struct") {
        let Some(open) = fields(&tokens, at) else { continue };
        let count = parts(&tokens[open + 1..closing(&tokens, open)]);
        if count > STRUCT_FIELDS_MAX {
            faults.push(format!(
                "{}:{}: {name} has {count} fields; find the two ideas in it and give each a struct",
                source.path,
                line_of(&bare, tokens[at].at)
            ));
        }
    }
    faults
}

/// Where `keyword` stands in front of a name, and that name.
fn named<'a>(tokens: &[Token<'a>], keyword: &str) -> Vec<(usize, &'a str)> {
    let is_name =
        |text: &str| text.starts_with(|first: char| first.is_alphabetic() || first == '_');
    let pairs = tokens.windows(2).enumerate();
    pairs
        .filter(|(_, pair)| pair[0].text == keyword && is_name(pair[1].text))
        .map(|(at, pair)| (at, pair[1].text))
        .collect()
}

/// The brace that opens the body of the function at `at`; none for one that is only declared.
fn body(tokens: &[Token], at: usize) -> Option<usize> {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            "{" if depth == 0 => return Some(index),
            ";" if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The brace or parenthesis that opens the fields of the struct at `at`; none for one without.
fn fields(tokens: &[Token], at: usize) -> Option<usize> {
    let mut generics = 0;
    let mut is_bounded = false;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text {
            "<" => generics += 1,
            ">" => generics -= 1,
            "where" => is_bounded = true,
            "{" if generics == 0 => return Some(index),
            "(" if generics == 0 && !is_bounded => return Some(index),
            ";" if generics == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The token that closes what the one at `open` opens, or the last.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len() - 1
}

/// How many parts `tokens` have between their outermost commas; a comma at the end adds none.
fn parts(tokens: &[Token]) -> usize {
    let mut depth = 0;
    let mut commas = 0;
    for token in tokens {
        match token.text {
            "(" | "[" | "{" | "<" => depth += 1,
            ")" | "]" | "}" | ">" => depth -= 1,
            "," if depth == 0 => commas += 1,
            _ => {}
        }
    }
    let is_open = tokens.last().is_some_and(|token| token.text != ",");
    commas + usize::from(is_open)
}

#[cfg(test)]
mod of_the_rules_themselves {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: "crates/a/src/core/b.rs".into(), text: text.into() }
    }

    /// A function of that many lines.
    fn function(lines: usize) -> String {
        let body = "    let brace = \"}\"; // }\n".repeat(lines - 2);
        format!("    pub fn f<T>(x: [u8; 2]) -> Vec<(T, u8)> where T: Fn(u8) {{\n{body}    }}\n")
    }

    #[test]
    fn a_long_function_is_found_and_one_that_fits_is_not() {
        let text = format!("struct A;\nimpl A {{\n    fn declared(&self);\n{}}}\n", function(81));
        let faults = long_functions(&source(&text));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("crates/a/src/core/b.rs:4: f has 81 lines"), "{faults:?}");
        let text = format!("type F = fn(u8);\n{}{}", function(80), function(80));
        assert_eq!(long_functions(&source(&text)), Vec::<String>::new());
        let text = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(200));
        assert_eq!(long_functions(&source(&text)), Vec::<String>::new());
    }

    #[test]
    fn a_function_within_a_function_counts_in_both() {
        let text = format!("fn outer() {{\n{}}}\n", function(81));
        assert_eq!(long_functions(&source(&text)).len(), 2);
    }

    #[test]
    fn a_struct_of_many_fields_is_found_and_one_of_fewer_is_not() {
        let field = |index| {
            format!("    /// A, b,\n    #[serde(a, b)]\n    f{index}: Map<u8, (u8, [u8; 2])>,\n")
        };
        let of = |count: usize| (0..count).map(field).collect::<String>();
        let text = format!("struct A<T, U> where T: Fn(u8) -> U {{\n{}}}\n", of(16));
        let faults = wide_structs(&source(&text));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("crates/a/src/core/b.rs:1: A has 16 fields"), "{faults:?}");
        let text = format!("struct Unit;\nstruct A {{\n{}}}\nstruct B {{\n{}}}\n", of(15), of(15));
        assert_eq!(wide_structs(&source(&text)), Vec::<String>::new());
    }

    #[test]
    fn the_fields_of_a_tuple_struct_are_counted() {
        let text = |count: usize| format!("struct A<T>({} Vec<(T, T)>);", "u8, ".repeat(count - 1));
        assert_eq!(wide_structs(&source(&text(16))).len(), 1);
        assert_eq!(wide_structs(&source(&text(15))).len(), 0);
    }
}
