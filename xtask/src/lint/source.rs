//! Rust source as tokens with their lines: comments and strings are out of the way, macro bodies are not.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One token of a flattened file; groups become their opening and closing signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// An identifier, a single punctuation sign, a bracket, or `"` for any literal.
    pub(super) text: String,
    /// Line, from 1.
    pub(super) line: usize,
}

/// The tokens of a file, or the line and message of what is not Rust in it.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, (usize, String)> {
    let stream: TokenStream = text
        .parse()
        .map_err(|error: proc_macro2::LexError| (error.span().start().line, error.to_string()))?;
    let mut flat = Vec::new();
    flatten(stream, &mut flat);
    Ok(flat)
}

fn flatten(stream: TokenStream, flat: &mut Vec<Token>) {
    for tree in stream {
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(flat, open, group.span_open().start().line);
                flatten(group.stream(), flat);
                push(flat, close, group.span_close().start().line);
            }
            TokenTree::Ident(ident) => push(flat, &ident.to_string(), ident.span().start().line),
            TokenTree::Punct(punct) => push(flat, &punct.as_char().to_string(), punct.span().start().line),
            TokenTree::Literal(literal) => push(flat, "\"", literal.span().start().line),
        }
    }
}

fn push(flat: &mut Vec<Token>, text: &str, line: usize) {
    if !text.is_empty() {
        flat.push(Token { text: text.to_owned(), line });
    }
}

/// Whether the tokens at `at` read as `words`.
pub(super) fn reads(tokens: &[Token], at: usize, words: &[&str]) -> bool {
    words
        .iter()
        .enumerate()
        .all(|(offset, word)| tokens.get(at + offset).is_some_and(|token| token.text == *word))
}

/// Index of the bracket that closes the one at `open`.
pub(super) fn closing(tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "{" | "[" => depth += 1,
            ")" | "}" | "]" => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(index);
        }
    }
    None
}

/// Token ranges of inline modules that are compiled for tests only (`#[cfg(test)] mod ... { ... }`), the attribute
/// included.
pub(super) fn test_modules(tokens: &[Token]) -> Vec<std::ops::RangeInclusive<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if let Some(module) = test_attribute(tokens, at).and_then(|next| module_keyword(tokens, next))
            && reads(tokens, module + 2, &["{"])
            && let Some(close) = closing(tokens, module + 2)
        {
            found.push(at..=close);
            at = close;
        }
        at += 1;
    }
    found
}

/// Names of modules in files of their own that are compiled for tests only (`#[cfg(test)] mod name;`).
pub(super) fn test_module_names(tokens: &[Token]) -> Vec<&str> {
    let attributes = (0..tokens.len()).filter_map(|at| test_attribute(tokens, at));
    attributes
        .filter_map(|next| module_keyword(tokens, next))
        .filter(|module| reads(tokens, module + 2, &[";"]))
        .map(|module| tokens[module + 1].text.as_str())
        .collect()
}

/// The token after a `#[cfg(test)]` or `#[cfg(all(test, ...))]` at `at`.
fn test_attribute(tokens: &[Token], at: usize) -> Option<usize> {
    let is_test = reads(tokens, at, &["#", "[", "cfg", "(", "test", ")", "]"])
        || reads(tokens, at, &["#", "[", "cfg", "(", "all", "(", "test", ","]);
    if is_test { closing(tokens, at + 1).map(|close| close + 1) } else { None }
}

/// The `mod` of the module that starts at `at`, after more attributes and its visibility.
fn module_keyword(tokens: &[Token], mut at: usize) -> Option<usize> {
    while reads(tokens, at, &["#", "["]) {
        at = closing(tokens, at + 1)? + 1;
    }
    if reads(tokens, at, &["pub"]) {
        at += 1;
        if reads(tokens, at, &["("]) {
            at = closing(tokens, at)? + 1;
        }
    }
    reads(tokens, at, &["mod"]).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::{test_module_names, test_modules, tokens};

    #[test]
    fn comments_and_strings_are_not_code() {
        let flat = tokens("// tokio\nfn a() { let _ = \"tokio\"; }").expect("Rust");
        assert!(flat.iter().all(|token| token.text != "tokio"));
        assert_eq!(flat.first().map(|token| token.line), Some(2));
    }

    #[test]
    fn what_stands_in_a_macro_is_seen() {
        let flat = tokens("fn a() { select! { x = tokio::spawn() => {} } }").expect("Rust");
        assert!(flat.iter().any(|token| token.text == "tokio"));
    }

    #[test]
    fn an_inline_test_module_is_found_with_its_attributes() {
        let flat =
            tokens("fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests { fn b() {} }\nfn c() {}").expect("Rust");
        let modules = test_modules(&flat);
        assert_eq!(modules.len(), 1);
        assert_eq!(flat[*modules[0].start()].line, 2);
        assert_eq!(flat[*modules[0].end()].line, 4);
    }

    #[test]
    fn a_test_module_in_a_file_of_its_own_is_found() {
        let text = "mod a;\n#[cfg(test)]\nmod b;\n#[cfg(all(test, feature = \"x\"))]\npub(crate) mod c;\n#[cfg(feature = \"test\")]\nmod d;";
        assert_eq!(test_module_names(&tokens(text).expect("Rust")), ["b", "c"]);
    }
}
