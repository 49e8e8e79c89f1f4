//! How deep an expression may be nested: what parses and evaluates it calls itself for each level, and stacks end.

/// Brackets inside each other. Those within texts count too: what is a text and what is not is for the parser to say.
const MAX_BRACKETS: usize = 24;

/// Signs in a row: `!!!!x`, and within texts.
const MAX_SIGNS: usize = 64;

/// Levels of a parsed expression. Each further operator of `a + b + c` is one.
pub(super) const MAX_LEVELS: usize = 64;

/// Looks at the text, before anything parses it.
pub(super) fn check(text: &str) -> Result<(), String> {
    let (mut brackets, mut signs) = (0_usize, 0);
    for character in text.chars() {
        match character {
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
