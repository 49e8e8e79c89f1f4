//! Expressions of the user's on events: which of them a sink wants (`where`), and what it is sent of them (`map`).
//!
//! They are written in CEL, the Common Expression Language (<https://cel.dev>), in which nothing can loop for ever. What
//! an expression may cost is bounded all the same: its length and nesting when it is compiled, the size of the event,
//! the work of its macros over lists, and the size of its result when it is evaluated.
//!
//! An expression sees `id`, `source`, `sourcetype`, `kind`, `subject` (null if there is none), `time`, `receivedtime`
//! and `data` (null for a body that is not JSON). Evaluating takes microseconds to milliseconds and does not wait for
//! anything; it belongs on a thread that may block.

mod cost;
mod depth;
mod names;
mod result;
mod variables;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};
use std::thread;

use cel::{Context, Env, ExecutionError, Program, Value};

use crate::event::Event;
use crate::model::{Mapped, Payload};

/// Bytes of an expression.
const MAX_EXPRESSION: usize = 8 * 1024;

/// Far more than what `depth` lets through takes, also in a build that is not optimized.
const PARSER_STACK: usize = 32 * 1024 * 1024;

/// Bytes of an event, as JSON, that an expression is evaluated on.
pub const MAX_INPUT: usize = 1024 * 1024;

/// Bytes of what a `map` makes, as JSON.
pub const MAX_OUTPUT: usize = 1024 * 1024;

/// The standard functions and macros, and no others: those that replace or join texts can make much of little.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Why an expression has no result for an event. The texts name nothing of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cannot {
    /// The event is larger than [`MAX_INPUT`], or nested deeper than JSON is read.
    #[error("the event is too large or too deep for an expression")]
    Input,
    /// The event has lists so long, or texts so large, that the expression would take too much of memory or time.
    #[error("the event is too large for what this expression does with it")]
    Work,
    /// The result is larger than [`MAX_OUTPUT`].
    #[error("the result is larger than 1 MiB")]
    Output,
    /// The result is nothing that JSON can say.
    #[error("the result cannot be written as JSON")]
    NoJson,
    /// A `where` whose result is neither true nor false.
    #[error("the result is neither true nor false")]
    NoBoolean,
    /// A member that the event does not have; `has(data.x)` asks for it first.
    #[error("the event does not have a member that the expression asks for")]
    Missing,
    /// An operator or function on values of types that it is not for, such as a text and null.
    #[error("an operator or function was given values of a type that it is not for")]
    Types,
    /// Division by zero, a number out of range, a text that is no number, and the like.
    #[error("it cannot be computed for this event")]
    Computation,
}

/// A compiled expression.
struct Expression {
    text: String,
    program: Program,
}

impl Expression {
    fn compile(text: &str) -> Result<Self, String> {
        if text.len() > MAX_EXPRESSION {
            return Err(format!("an expression may have {MAX_EXPRESSION} bytes at most"));
        }
        depth::check(text)?;
        let program = parse(text)?;
        cost::check(program.expression())?;
        Ok(Self { text: text.to_owned(), program })
    }

    fn evaluate(&self, event: &Event) -> Result<Value, Cannot> {
        let (variables, size) = variables::of(event)?;
        if !cost::allows(self.program.expression(), &size) {
            return Err(Cannot::Work);
        }
        // The same holds for a defect of the interpreter.
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            let mut context = Context::with_env(ENVIRONMENT.clone());
            for (name, value) in variables {
                context.add_variable_from_value(name, value);
            }
            self.program.execute(&context)
        }));
        evaluated.map_err(|_| Cannot::Computation)?.map_err(|error| cannot(&error))
    }
}

/// Parses on a thread of its own, since the parser needs more of a stack than the caller may have. A defect of the parser
/// costs this expression and no more.
fn parse(text: &str) -> Result<Program, String> {
    let owned = text.to_owned();
    let parser = thread::Builder::new().name("expression".to_owned()).stack_size(PARSER_STACK);
    let parsed = parser.spawn(move || ENVIRONMENT.compile(&owned)).map_err(|error| format!("no thread: {error}"))?;
    let parsed = parsed.join().map_err(|_| "this is no CEL expression".to_owned())?;
    parsed.map_err(|error| {
        let text = error.to_string();
        format!("this is no CEL expression: {}", text.lines().next().unwrap_or_default())
    })
}

/// Errors of the interpreter show values of the event, so that only their kind is told.
fn cannot(error: &ExecutionError) -> Cannot {
    match error {
        ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_) | ExecutionError::UndeclaredReference(_) => {
            Cannot::Missing
        }
        ExecutionError::NoSuchOverload(_)
        | ExecutionError::UnsupportedTargetType { .. }
        | ExecutionError::NotSupportedAsMethod { .. }
        | ExecutionError::UnsupportedKeyType(_)
        | ExecutionError::UnexpectedType { .. }
        | ExecutionError::ValuesNotComparable(..)
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::UnsupportedIndex(..) => Cannot::Types,
        _ => Cannot::Computation,
    }
}

/// `where`: whether a sink wants an event.
#[derive(Clone)]
pub struct Condition(Arc<Expression>);

impl Condition {
    /// The condition of this text.
    ///
    /// # Errors
    /// It is no CEL, or names what is not there; the text says what is.
    pub fn compile(text: &str) -> Result<Self, String> {
        Expression::compile(text).map(|expression| Self(Arc::new(expression)))
    }

    /// Whether it holds for this event.
    pub fn holds(&self, event: &Event) -> Result<bool, Cannot> {
        match self.0.evaluate(event)? {
            Value::Bool(holds) => Ok(holds),
            _ => Err(Cannot::NoBoolean),
        }
    }
}

/// `map`: what a sink is sent as the `data` of an event.
#[derive(Clone)]
pub struct Mapping(Arc<Expression>);

impl Mapping {
    /// The mapping of this text.
    ///
    /// # Errors
    /// It is no CEL, or names what is not there; the text says what is.
    pub fn compile(text: &str) -> Result<Self, String> {
        Expression::compile(text).map(|expression| Self(Arc::new(expression)))
    }

    /// The event with what it makes of it in place of its payload. Members of objects are in the order of their names.
    pub fn apply(&self, event: &Event) -> Result<Event, Cannot> {
        let data = result::json(&self.0.evaluate(event)?)?;
        Ok(Event { record: event.record.clone(), payload: Arc::new(Payload::Mapped(Mapped { data })) })
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.text, f)
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.text, f)
    }
}

#[cfg(test)]
mod tests;
