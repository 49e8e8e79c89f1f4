//! How deep an expression may be nested: what parses and evaluates it calls itself for each level, and stacks end.

/// Brackets inside each other.
const MAX_BRACKETS: usize = 24;

/// Operators in a row before one value: `!!!!x`.
const MAX_SIGNS: usize = 8;

/// Levels of a parsed expression. Each further operator of `a + b + c` is one.
pub(super) const MAX_LEVELS: usize = 64;

/// Looks at the text, before anything parses it.
pub(super) fn check(text: &str) -> Result<(), String> {
    let (mut brackets, mut signs) = (0_usize, 0);
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if let Some(end) = quote {
            match character {
                // What is escaped ends no text.
                '\\' => drop(characters.next()),
                _ if character == end => quote = None,
                _ => {}
            }
            continue;
        }
        match character {
            '"' | '\'' => quote = Some(character),
            '(' | '[' | '{' => brackets += 1,
            ')' | ']' | '}' => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        match character {
            '!' | '-' => signs += 1,
            character if character.is_whitespace() => {}
            _ => signs = 0,
        }
        if brackets > MAX_BRACKETS || signs > MAX_SIGNS {
            return Err(too_deep());
        }
    }
    Ok(())
}

pub(super) fn too_deep() -> String {
    format!("this is nested too deep; {MAX_BRACKETS} brackets or {MAX_LEVELS} operators inside each other are the most")
}
